"""Own tile turns: each tile of an image is turned or mirrored in its place, by a key of the image's own."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators


class OwnTileTurnsConfig(Config):
    """``tile``: pixels a side."""

    tile: int = Field(28, ge=8, le=56)


class OwnTileTurns(Defense):
    """There are seven ways a tile, and what faces show at a place tells which it was."""

    version = 2
    card = DefenseCard(
        title="Tiles turned by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )
    Config = OwnTileTurnsConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Tiles, turned by right angles or mirrored or both: none is as it was."""
        side, found = self.config.tile, []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            changed = image.clone()
            for top in range(0, image.shape[1] - side + 1, side):
                for left in range(0, image.shape[2] - side + 1, side):
                    tile = image[:, top : top + side, left : left + side]
                    quarters, mirrored = divmod(int(torch.randint(1, 8, (), generator=own)), 2)
                    turned = tile.rot90(quarters, (1, 2))
                    changed[:, top : top + side, left : left + side] = turned.flip(2) if mirrored else turned
            found.append(changed)
        return torch.stack(found)


DEFENSE = OwnTileTurns
