"""Fine negative: every other pixel is inverted, as on a chequerboard."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard


class FineNegative(Defense):
    """Whoever makes the image smaller sees grey; pixel by pixel nothing is lost."""

    version = 1
    card = DefenseCard(
        title="Every other pixel inverted",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A negative on the black squares of a chequerboard of single pixels."""
        rows, columns = (torch.arange(side)[:, None] for side in images.shape[2:])
        black = (rows + columns.T) % 2 == 1
        return torch.where(black, 1 - images, images)


DEFENSE = FineNegative
