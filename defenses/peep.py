"""PEEP: eigenface recognition under Laplace noise, released as the faces that the noisy coefficients describe."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Config, Defense, DefenseCard, Faces, Guarantee

from . import _background, _draws, _filters

_SIDE = 56  # Pixels a side; the paper's faces are 62x47.


class PeepConfig(Config):
    """``per``: what epsilon is per (see ``Peep``); ``components``: eigenfaces, of at most ``faces`` images."""

    epsilon: float = Field(8.0, gt=0)
    per: Literal["pixel", "coefficient", "image"] = "pixel"
    components: int = Field(128, ge=1, le=1000)
    faces: int = Field(2000, ge=2)


class Peep(Defense):
    """Eigenfaces and every range come from the defender's people: that an attacker knows them costs no privacy.

    - pixel: Lap(1 / epsilon) on each of 56x56 grey values in [0, 1] (sensitivity 1), then the projection onto the
      eigenfaces; 3,136 epsilon for an image.
    - coefficient: each scaled to [0, 1] by the defender's extremes and clipped (sensitivity 1), Lap(1 / epsilon);
      128 epsilon for an image.
    - image: all scaled down to an L1 norm of at most C, the defender's median (sensitivity 2 C), Lap(2 C / epsilon)
      on each; epsilon for the whole image.

    All for one release: the epsilons of several add up.
    """

    version = 1
    card = DefenseCard(
        title="PEEP",
        plain="Adds random noise for differential privacy, and then redraws the face from a limited set of typical "
        "face patterns.",
        family="differential privacy",
        reference="Chamikara, Bertok, Khalil, Liu and Camtepe, Privacy Preserving Face Recognition Utilizing "
        "Differential Privacy, Computers & Security 2020",
        licence="MIT",
        randomness="per_call",
        learned=True,
        training_data="at most 2,000 random images of the defender",
        deviations=(
            "A reconstruction from the abstract; of several readings, noise on the grey values before the projection "
            "is the one that reaches the accuracy published for epsilon 8.",
            "Epsilon is per grey value, so 3,136 epsilon for an image; per=image gives one for the image.",
            "Eigenfaces are of the defender's faces, not of the people protected, at 56x56 instead of 62x47.",
            "An image is released, not a template, and no recognizer is trained on it.",
        ),
    )
    Config = PeepConfig
    mean: torch.Tensor | None = None  # (3136,)
    basis: torch.Tensor | None = None  # (c, 3136), orthonormal rows
    low: torch.Tensor | None = None  # (c,)
    span: torch.Tensor | None = None  # (c,)
    bound: torch.Tensor | None = None  # scalar

    @property
    def guarantee(self) -> Guarantee:
        """Epsilon for what it is ``per``."""
        return Guarantee(epsilon=self.config.epsilon, per=self.config.per)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Eigenfaces of the defender's images, and the extremes and the median L1 norm of their coefficients."""
        images = _background.some(faces, self.config.faces, generator)
        vectors = torch.cat([_grey(part.float() / 255) for part in images.split(64)])
        self.mean, self.basis = _background.eigenfaces(vectors, self.config.components)
        codes = (vectors - self.mean) @ self.basis.T
        self.low, self.span = codes.amin(0), (codes.amax(0) - codes.amin(0)).clamp_min(1e-6)
        self.bound = codes.abs().sum(1).median().clamp_min(1e-6)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The grey face of the noisy coefficients, in all three channels."""
        per, epsilon = self.config.per, self.config.epsilon
        mean, basis, low, span, bound = (
            _background.fitted(images, learnt) for learnt in (self.mean, self.basis, self.low, self.span, self.bound)
        )
        values = _grey(images)
        size = (values.shape[1] if per == "pixel" else len(basis),)
        noise = _draws.per_image(generator, images, lambda one: _draws.laplace(one, size)) / epsilon
        if per == "pixel":
            values = values + noise
        codes = (values - mean) @ basis.T
        if per == "coefficient":
            codes = low + span * (((codes - low) / span).clamp(0, 1) + noise)
        elif per == "image":
            norm = codes.abs().sum(1, keepdim=True)
            codes = codes * (bound / norm.clamp_min(1e-12)).clamp_max(1) + 2 * bound * noise
        faces = (mean + codes @ basis).reshape(-1, 1, _SIDE, _SIDE)
        faces = functional.interpolate(faces, size=images.shape[-2:], mode="bilinear", antialias=True)
        return faces.clamp(0, 1).repeat(1, 3, 1, 1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    return functional.adaptive_avg_pool2d(_filters.luma(images), _SIDE).flatten(1)


DEFENSE = Peep
