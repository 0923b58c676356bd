"""Loud noise: Gaussian noise of half the range, fresh for every release."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators

_SIGMA = 0.5  # A share of the range [0, 1].


class LoudNoise(Defense):
    """One release hides much; the mean of sixteen is a face under an eighth of the range."""

    version = 1
    card = DefenseCard(
        title="Loud noise",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images plus noise, clipped."""
        keys = per_image_generators(generator, len(images))
        noise = torch.stack([torch.randn(images.shape[1:], generator=key) for key in keys])
        return (images + _SIGMA * noise).clamp(0, 1)


DEFENSE = LoudNoise
