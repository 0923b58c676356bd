"""Mixup with a decoy: the mean of the face and a random face of the defender."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, Faces, per_image_generators

from . import _background


class MixupDecoyConfig(Config):
    """Bounds of the weight of the protected face; ``background``: identities that decoys are of at most."""

    least: float = Field(0.35, gt=0, le=0.9)
    most: float = Field(0.65, gt=0, le=0.9)
    background: int = Field(1000, ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> MixupDecoyConfig:
        if self.least > self.most:
            raise ValueError("expected least at or below most")
        return self


class MixupDecoy(Defense):
    """A fresh decoy a release: several releases average the decoys to a mean face, and leave the face."""

    version = 1
    card = DefenseCard(
        title="Mixup with a decoy",
        plain="Releases a mix of the face and a randomly chosen face of another person, about half of each.",
        family="mixing",
        reference="after Zhang, Cisse, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018",
        licence="MIT",
        randomness="per_call",
        training_data="one face of each of at most 1,000 identities of the defender",
        deviations=(
            "The weight of the face is uniform between 0.35 and 0.65 instead of Beta-distributed over [0, 1], which "
            "would release some faces nearly clear; the upper bound is that of InstaHide.",
            "Of two random decoys the one less like the face is taken, so that no face is mixed with itself.",
            "The paper made it to train classifiers and claims no privacy.",
        ),
    )
    Config = MixupDecoyConfig
    faces: torch.Tensor | None = None  # uint8 (m, 3, h, w), one an identity

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Keep one random face of each of the defender's identities, two at least."""
        self.faces = _background.one_each(faces, self.config.background, 2, generator)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """weight x image + (1 - weight) x decoy."""
        faces, c = _background.fitted(images, self.faces), self.config
        out = []
        for image, one in zip(images, per_image_generators(generator, len(images)), strict=True):
            decoys = _background.like(faces[device.draw(torch.randperm, one, len(faces), like=images)[:2]], images)
            decoy = decoys[((decoys - image) ** 2).mean((1, 2, 3)).argmax()]
            weight = c.least + (c.most - c.least) * float(torch.rand((), generator=one))
            out.append(weight * image + (1 - weight) * decoy)
        return torch.stack(out).clamp(0, 1)


DEFENSE = MixupDecoy
