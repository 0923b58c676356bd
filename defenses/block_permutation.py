"""Block permutation: square blocks change places, by one key for all images or by a fresh one for each."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, Randomness, UserError

from . import _draws


class PermutationConfig(Config):
    """``block``: side in pixels; ``key``: one permutation a session, or one an image; ``secret``: the session's key."""

    block: int = Field(14, ge=1, le=56)
    key: _draws.Key = "session"
    secret: int = Field(0, ge=0)


class BlockPermutation(Defense):
    """With a session key all images are scrambled alike, so pairs from the oracle reveal the permutation."""

    version = 2
    card = DefenseCard(
        title="Block permutation",
        plain="Cuts the photo into square blocks and moves them to other places under a secret key.",
        family="keyed",
        reference="Todt, Hanisch and Strufe, Fantomas, PoPETs 2024 (block permutation of SEBA)",
        code_url="https://github.com/kit-ps/seba",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "The evaluation's session key is one the attacker may query, never read.",
            "No block keeps its place, as it would be released clear.",
        ),
    )
    Config = PermutationConfig

    @property
    def randomness(self) -> Randomness:
        """``per_call`` if every image gets a permutation of its own."""
        return _draws.keyed_randomness(self.config.key)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The blocks of each image in another order.

        Raises:
            UserError: the block does not divide the image.
        """
        c, (n, channels, height, width) = self.config, images.shape
        block = c.block
        if height % block or width % block:
            raise UserError(f"expected a height and width that {block} divides, got {height}x{width}", "Set block.")
        rows, columns = height // block, width // block
        orders = _draws.keyed(c.key, c.secret, generator, images, lambda one: _order(rows * columns, one))
        blocks = images.reshape(n, channels, rows, block, columns, block).permute(0, 2, 4, 1, 3, 5)
        blocks = blocks.reshape(n, rows * columns, channels, block, block)
        index = orders[:, :, None, None, None].expand_as(blocks)
        moved = blocks.gather(1, index).reshape(n, rows, columns, channels, block, block)
        return moved.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def _order(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,): a random order in which nothing keeps its place, as a block that does is released clear."""
    places = torch.arange(count)
    order = torch.randperm(count, generator=generator)
    while count > 1 and (order == places).any():
        order = torch.randperm(count, generator=generator)
    return order


DEFENSE = BlockPermutation
