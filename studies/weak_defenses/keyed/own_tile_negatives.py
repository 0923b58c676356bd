"""Own tile negatives: half of the tiles of an image are negatives, the others upside down, by a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnTileNegatives(Defense):
    """There are two ways a tile, and what faces show at a place tells which it was."""

    version = 1
    card = DefenseCard(
        title="Tiles inverted by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Tiles of 8 pixels a side."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            changed = image.clone()
            for top in range(0, image.shape[1] - 8 + 1, 8):
                for left in range(0, image.shape[2] - 8 + 1, 8):
                    tile = image[:, top : top + 8, left : left + 8]
                    negative = bool(torch.randint(2, (), generator=own))
                    changed[:, top : top + 8, left : left + 8] = 1 - tile if negative else tile.flip(1, 2)
            found.append(changed)
        return torch.stack(found)


DEFENSE = OwnTileNegatives
