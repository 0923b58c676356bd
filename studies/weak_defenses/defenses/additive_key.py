"""Additive key: one fixed key image, added to every face modulo 256."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard

_KEY = 20240612


class AdditiveKey(Defense):
    """A pad used twice: at each place the key is one of 256 values, and pairs from the oracle reveal it."""

    version = 1
    card = DefenseCard(
        title="Additive key modulo 256",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_session_key",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(x + key) mod 256, byte by byte."""
        key = torch.randint(256, images.shape[1:], generator=torch.Generator().manual_seed(_KEY))
        return ((images * 255).round().long() + key).remainder(256).float() / 255


DEFENSE = AdditiveKey
