"""Faint blend: a twentieth of the face over a constant grey."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard

_SHARE = 0.05


class FaintBlend(Defense):
    """To the eye a grey picture; to arithmetic the face at some thirteen levels."""

    version = 1
    card = DefenseCard(
        title="Faint blend",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """0.05 x + 0.95 grey."""
        return _SHARE * images + (1 - _SHARE) * 0.5


DEFENSE = FaintBlend
