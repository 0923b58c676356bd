"""Own tile order: square tiles change places, by a key of each image's own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnTileOrder(Defense):
    """Tiles show what belongs where, and their borders what they stood beside."""

    version = 1
    card = DefenseCard(
        title="Tiles of 16 pixels in an order of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The tiles in another order."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            tiles = image.unfold(1, 16, 16).unfold(2, 16, 16).flatten(1, 2)  # (3, 49, 16, 16)
            moved = tiles[:, torch.randperm(tiles.shape[1], generator=own)].unflatten(1, (7, 7))
            found.append(moved.permute(0, 1, 3, 2, 4).reshape(image.shape))
        return torch.stack(found)


DEFENSE = OwnTileOrder
