"""Gaussian noise: white, independent in every pixel, channel, image and call."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard

from . import _draws


class NoiseConfig(Config):
    """``sigma``: standard deviation in grey levels of [0, 1], before values are clipped to [0, 1]."""

    sigma: float = Field(50 / 255, gt=0, le=10)


class GaussianNoise(Defense):
    """Fresh for each release, so that an attacker with several releases of one photo averages it away."""

    version = 1
    card = DefenseCard(
        title="Gaussian noise",
        plain="Adds random noise to every pixel of the photo, new for every image that is released.",
        family="classical",
        reference="Todt, Hanisch and Strufe, Fantomas, PoPETs 2024 (Gaussian noise of SEBA)",
        code_url="https://github.com/kit-ps/seba",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "Noise has both signs; SEBA draws it into unsigned bytes, which loses the negative half.",
            "The default strength is ours: the 50 grey levels that denoising is commonly tried on.",
        ),
    )
    Config = NoiseConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images plus noise, clipped."""
        shape = images.shape[1:]
        noise = _draws.per_image(generator, images, lambda one: torch.randn(shape, generator=one))
        noisy: torch.Tensor = images + self.config.sigma * noise
        return noisy.clamp(0, 1)


DEFENSE = GaussianNoise
