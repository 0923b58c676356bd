"""Negative, swapped: the photographic negative with its channels rotated."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard


class NegativeSwapped(Defense):
    """A fixed map of each pixel that loses nothing."""

    version = 1
    card = DefenseCard(
        title="Negative with rotated channels",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """1 - x, each channel where the next one was."""
        return 1 - images.roll(1, dims=1)


DEFENSE = NegativeSwapped
