"""InstaHide: each face mixed with faces of the defender, then the sign of every value flipped at random."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, Faces, per_image_generators

from . import _background

_TRIES = 64


class InstaHideConfig(Config):
    """``k``: images mixed, the face among them; ``bound``: largest weight of one; ``release``: see ``InstaHide``."""

    k: int = Field(2, ge=2, le=16)
    bound: float = Field(0.65, gt=0, le=1)
    release: Literal["shifted", "absolute"] = "shifted"
    background: int = Field(1000, ge=1)

    @model_validator(mode="after")
    def _feasible(self) -> InstaHideConfig:
        if self.bound * self.k < 1:
            raise ValueError(f"expected a bound of at least 1 / k = {1 / self.k:.3g}")
        return self


class InstaHide(Defense):
    """The flips hide nothing but signs: the absolute value is released in effect, and many releases are unmixed.

    Mixed values y lie in [-1, 1], sign s in {-1, 1}: ``shifted`` releases (s y + 1) / 2, ``absolute`` releases |y|,
    which is all that an attacker can use of the other.
    """

    version = 1
    card = DefenseCard(
        title="InstaHide",
        plain="Mixes the face with faces of other people and then flips the sign of every pixel value at random.",
        family="mixing",
        reference="Huang, Song, Li and Arora, InstaHide: Instance-hiding Schemes for Private Distributed Learning, "
        "ICML 2020; broken by Carlini et al., Is Private Learning Possible with Instance Encoding?, 2021",
        code_url="https://github.com/Hazelsuko07/InstaHide",
        licence="MIT",
        randomness="per_call",
        training_data="one face of each of at most 1,000 identities of the defender",
        deviations=(
            "Released as an image, shifted from [-1, 1] to [0, 1].",
            "k is 2, as in later tables of face recognition; the paper takes 4 and more.",
            "The other images are the defender's faces instead of a large public set.",
            "Values are scaled to [-1, 1] instead of by the mean and deviation of a data set.",
        ),
    )
    Config = InstaHideConfig
    faces: torch.Tensor | None = None  # uint8 (m, 3, h, w), one an identity

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Keep one random face of each of the defender's identities."""
        self.faces = _background.one_each(faces, self.config.background, self.config.k - 1, generator)

    def weights(self, generator: torch.Generator) -> torch.Tensor:
        """(k,): uniform among those that add up to 1, none above the bound; equal if 64 draws give none."""
        draws = torch.empty(_TRIES, self.config.k).exponential_(generator=generator)
        draws = draws / draws.sum(1, keepdim=True)
        good = (draws.amax(1) <= self.config.bound).nonzero()
        return draws[good[0, 0]] if len(good) else torch.full((self.config.k,), 1 / self.config.k)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The mixed images under random signs."""
        faces, c = _background.fitted(images, self.faces), self.config

        def encode(image: torch.Tensor, one: torch.Generator) -> torch.Tensor:
            others = faces[device.draw(torch.randperm, one, len(faces), like=images)[: c.k - 1]]
            parts = torch.cat([image[None], _background.like(others, image[None])])
            mixed = 2 * torch.einsum("k,kchw->chw", self.weights(one).to(images.device), parts) - 1
            if c.release == "absolute":
                return mixed.abs()
            signs = device.draw(torch.randint, one, 0, 2, image.shape, like=images, dtype=torch.int8) * 2 - 1
            return (mixed * signs + 1) / 2

        keys = per_image_generators(generator, len(images))
        return torch.stack([encode(image, key) for image, key in zip(images, keys, strict=True)]).clamp(0, 1)


DEFENSE = InstaHide
