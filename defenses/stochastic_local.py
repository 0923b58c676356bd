"""Stochastic local features: local contrast under a fresh smooth field, warp and noise; no training."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators

from . import _filters


class StochasticLocalConfig(Config):
    """Amplitudes in grey levels of [0, 1], lengths in pixels of a 112-pixel face.

    Presets: `lite` is noise 0, warp 0; `strong` is noise 10/255, warp 2; the default lies between them.
    """

    mean_sigma: float = Field(4.0, gt=0, le=30)
    spread_sigma: float = Field(8.0, gt=0, le=30)
    gain: float = Field(0.16, gt=0, le=1)
    field: float = Field(30 / 255, ge=0, le=1)
    field_sigma: float = Field(10.0, gt=0, le=50)
    noise: float = Field(10 / 255, ge=0, le=1)
    warp: float = Field(1.0, ge=0, le=10)  # The displacement's standard deviation.
    warp_sigma: float = Field(10.0, gt=0, le=50)


class StochasticLocal(Defense):
    """The training-free relative of the reference defense: what it hides, fresh draws must hide each time anew."""

    version = 1
    card = DefenseCard(
        title="Stochastic local features",
        plain="Keeps local contrast such as edges and texture, and adds a random brightness pattern, a random "
        "distortion and noise. Every release of a photo looks different.",
        family="local features",
        reference="after Liu et al., Local Features Meet Stochastic Anonymization, arXiv 2412.08276, 2024",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "Fixed filters and noise instead of a trained generator; nothing was trained against an adversary.",
        ),
    )
    Config = StochasticLocalConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Local contrast of the luma, warped, plus a smooth random field and white noise, all fresh per image."""
        c, (n, _, height, width) = self.config, images.shape
        contrast = _filters.local_contrast(_filters.luma(images), c.mean_sigma, c.spread_sigma)
        keys = per_image_generators(generator, n)
        fields = _filters.smooth_fields(keys, 1, height, width, c.field_sigma, images.device)
        if c.warp > 0:
            moves = _filters.smooth_fields(keys, 2, height, width, c.warp_sigma, images.device)
            contrast = _filters.warp(contrast, c.warp * moves)
        noise = torch.stack([torch.randn(1, height, width, generator=key) for key in keys]).to(images.device)
        out: torch.Tensor = 0.5 + c.gain * contrast + c.field * fields + c.noise * noise
        return out.clamp(0, 1).repeat(1, 3, 1, 1)


DEFENSE = StochasticLocal
