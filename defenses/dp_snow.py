"""DP-Snow: a random share of the pixels turned grey."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, Guarantee

from . import _draws

GREY = 127 / 255


class DpSnowConfig(Config):
    """``delta``: largest share of the pixels that stay as they are."""

    delta: float = Field(0.5, ge=0, lt=1)


class DpSnow(Defense):
    """Each pixel is shown, as it is, with a probability of at most delta: (0, delta)-privacy of a single pixel.

    An attacker fills the gaps in from the pixels that are left; two releases of a photo show delta (2 - delta) of them.
    """

    version = 2
    card = DefenseCard(
        title="DP-Snow",
        plain="Turns a random share of the pixels grey and leaves the others as they are.",
        family="differential privacy",
        reference="John, Liu, Xia, Koppal and Jain, Let It Snow: Adding Pixel Noise to Protect the User's Identity, "
        "ETRA Adjunct 2020",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "The guarantee is (0, delta) for one pixel of one release; there is no epsilon, and none for an image.",
            "The default of delta is ours; the paper tries several.",
        ),
    )
    Config = DpSnowConfig

    @property
    def guarantee(self) -> Guarantee:
        """(0, delta) for one pixel."""
        return Guarantee(epsilon=0, delta=self.config.delta, per="pixel")

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images with a share 1 - delta of their pixels grey, rounded up to a whole pixel."""
        n, _, height, width = images.shape
        shown = Fraction(str(self.config.delta))  # As it is written: of 100 pixels, 0.29 are 29.
        snowed = math.ceil((1 - shown) * height * width)
        snow = _draws.per_image(generator, images, lambda one: torch.randperm(height * width, generator=one) < snowed)
        return torch.where(snow.reshape(n, 1, height, width), GREY, images)


DEFENSE = DpSnow
