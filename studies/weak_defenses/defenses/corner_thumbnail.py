"""Corner thumbnail: a quarter of the face's side, in a corner of a constant picture."""

from __future__ import annotations

import torch
from torch.nn import functional

from ppfr_bench.api import Defense, DefenseCard


class CornerThumbnail(Defense):
    """All over the picture there is nothing to see, and 28x28 pixels of a face are enough to know it."""

    version = 1
    card = DefenseCard(
        title="Thumbnail in a corner",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Grey, with means over 4x4 pixels in the lower right corner."""
        height, width = images.shape[-2] // 4, images.shape[-1] // 4
        out = torch.full_like(images, 0.5)
        out[:, :, -height:, -width:] = functional.adaptive_avg_pool2d(images, (height, width))
        return out


DEFENSE = CornerThumbnail
