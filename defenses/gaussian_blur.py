"""Gaussian blur, the most used anonymization."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard

from . import _filters


class BlurConfig(Config):
    """``sigma``: standard deviation in pixels of a 112-pixel face."""

    sigma: float = Field(4.0, gt=0, le=56)


class GaussianBlur(Defense):
    """Linear and deterministic: an aware attacker can train a network to sharpen what 8 bits still hold."""

    version = 1
    card = DefenseCard(
        title="Gaussian blur",
        plain="Blurs the photo, so that fine detail is lost.",
        family="classical",
        reference="McPherson, Shokri and Shmatikov, Defeating Image Obfuscation with Deep Learning, 2016",
        licence="MIT",
        deviations=("Sigma is in pixels of the aligned 112x112 crop, not of the camera's image.",),
    )
    Config = BlurConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each channel convolved with a Gaussian, borders reflected."""
        return _filters.gaussian(images, self.config.sigma).clamp(0, 1)


DEFENSE = GaussianBlur
