"""Negative-positive scrambling (encryption then compression): blocks moved, turned, negated, channels exchanged."""

from __future__ import annotations

from itertools import permutations

import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, Randomness, UserError

from . import _draws


class NegativePositiveConfig(Config):
    """``block``: side in pixels; ``key``: one a session, or one an image; ``secret``: the session's key."""

    block: int = Field(14, ge=1, le=56)
    key: _draws.Key = "session"
    secret: int = Field(0, ge=0)


class NegativePositive(Defense):
    """Within a block everything stays: pairs from the oracle reveal a session's key, and a puzzle solver needs none."""

    version = 1
    card = DefenseCard(
        title="Negative-positive scrambling",
        plain="Cuts the photo into square blocks and moves, turns, inverts and recolours them under a secret key.",
        family="keyed",
        reference="Chuman, Sirichotedumrong and Kiya, Encryption-then-Compression Systems Using Grayscale-based Image "
        "Encryption for JPEG Images, IEEE TIFS 2019 (its conventional colour scheme, of Kurihara et al. 2015)",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "Blocks have 14 pixels, which divide the crop, instead of 16.",
            "The evaluation's session key is one the attacker may query, never read.",
        ),
    )
    Config = NegativePositiveConfig

    @property
    def randomness(self) -> Randomness:
        """``per_call`` if every image gets a key of its own."""
        return _draws.keyed_randomness(self.config.key)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Blocks in another order, each in one of 8 orientations, 6 channel orders and 2 polarities.

        Raises:
            UserError: the block does not divide the image.
        """
        c, (n, channels, height, width) = self.config, images.shape
        block, rows, columns = c.block, height // c.block, width // c.block
        if height % block or width % block:
            raise UserError(f"expected a height and width that {block} divides, got {height}x{width}", "Set block.")
        keys = _draws.keyed(c.key, c.secret, generator, images, lambda one: _key(rows * columns, one))  # (n, 4, blocks)
        blocks = images.reshape(n, channels, rows, block, columns, block).permute(0, 2, 4, 1, 3, 5)
        blocks = blocks.reshape(n, rows * columns, channels * block * block)
        order, orientation, exchange, negative = keys.unbind(1)
        blocks = blocks.gather(1, order[:, :, None].expand_as(blocks))
        blocks = blocks.gather(2, _within.on(images.device, block)[orientation, exchange])
        blocks = torch.where(negative[:, :, None] == 1, 1 - blocks, blocks)
        blocks = blocks.reshape(n, rows, columns, channels, block, block).permute(0, 3, 1, 4, 2, 5)
        return blocks.reshape(images.shape)


def _key(blocks: int, generator: torch.Generator) -> torch.Tensor:
    """int64 (4, blocks): source, orientation, channel order, polarity."""
    order = torch.randperm(blocks, generator=generator)
    return torch.stack([order, *(torch.randint(0, count, (blocks,), generator=generator) for count in (8, 6, 2))])


@device.per_device
def _within(block: int) -> torch.Tensor:
    """int64 (8, 6, 3 * block^2): where each value of a block comes from, by orientation and channel order."""
    places = torch.arange(block * block).reshape(block, block)
    turned = [torch.rot90(side, turns).flatten() for side in (places, places.T) for turns in range(4)]
    channels = torch.tensor(list(permutations(range(3)))) * block * block
    return (channels[None, :, :, None] + torch.stack(turned)[:, None, None, :]).flatten(2)


DEFENSE = NegativePositive
