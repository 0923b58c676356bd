"""A black image: the upper end of privacy, and no utility."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard


class Blackout(Defense):
    """Releases nothing of the face. No attack may beat the blind answer here; one that does is broken."""

    version = 1
    card = DefenseCard(
        title="Blackout",
        plain="Replaces the photo by a black image. It marks the best possible privacy and the worst possible "
        "usefulness.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Zeros of the same shape."""
        return torch.zeros_like(images)


DEFENSE = Blackout
