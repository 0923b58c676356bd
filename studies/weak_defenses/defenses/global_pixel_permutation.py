"""Global pixel permutation: every pixel changes place, by one fixed key."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard

_KEY = 20240611


class GlobalPixelPermutation(Defense):
    """A linear map of the whole image, the same for everyone: pairs from the oracle reveal it."""

    version = 1
    card = DefenseCard(
        title="Global pixel permutation",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_session_key",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The pixels in the key's order, their three values together."""
        pixels = images.flatten(2)
        order = torch.randperm(pixels.shape[2], generator=torch.Generator().manual_seed(_KEY))
        return pixels[:, :, order].reshape(images.shape)


DEFENSE = GlobalPixelPermutation
