"""Local contrast: local mean and variance normalised, so that local features stay and global ones go flat."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard

from . import _filters


class LocalContrastConfig(Config):
    """``sigma`` of the local mean and spread in pixels; ``gain``: grey levels of one local standard deviation."""

    sigma: float = Field(4.0, gt=0, le=30)
    gain: float = Field(0.16, gt=0, le=1)


class LocalContrast(Defense):
    """Deterministic and colourless: illumination and large shapes go, contour and texture stay."""

    version = 1
    card = DefenseCard(
        title="Local contrast",
        plain="Keeps only local contrast such as edges and texture. Colour, light and large shapes of the face are "
        "removed.",
        family="local features",
        reference="after Liu et al., Local Features Meet Stochastic Anonymization, arXiv 2412.08276, 2024",
        licence="MIT",
        deviations=("Only the paper's premise (local features suffice), without its generator and its randomness.",),
    )
    Config = LocalContrastConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """0.5 + gain (luma - local mean) / local deviation, in all three channels."""
        sigma = self.config.sigma
        contrast = _filters.local_contrast(_filters.luma(images), sigma, sigma)
        gray: torch.Tensor = (0.5 + self.config.gain * contrast).clamp(0, 1)
        return gray.repeat(1, 3, 1, 1)


DEFENSE = LocalContrast
