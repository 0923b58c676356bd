"""Pixel permutation: all pixels change places, by one key for all images or by a fresh one for each."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, Randomness

from . import _draws


class PixelPermutationConfig(Config):
    """``key``: one permutation a session, or one an image; ``secret``: the session's key."""

    key: _draws.Key = "session"
    secret: int = Field(0, ge=0)


class PixelPermutation(Defense):
    """With a session key a few pairs from the oracle reveal the permutation; without, the colours remain."""

    version = 1
    card = DefenseCard(
        title="Pixel permutation",
        plain="Moves all pixels of the photo to other places under a secret key.",
        family="keyed",
        reference="Cichowski and Czyzewski, Reversible Video Stream Anonymization for Video Surveillance Systems Based "
        "on Pixels Relocation and Watermarking, ICCV Workshops 2011",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "A uniformly random permutation of the whole crop instead of the paper's relocation table and watermark.",
            "The evaluation's session key is one the attacker may query, never read.",
        ),
    )
    Config = PixelPermutationConfig

    @property
    def randomness(self) -> Randomness:
        """``per_call`` if every image gets a permutation of its own."""
        return _draws.keyed_randomness(self.config.key)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The pixels of each image in another order, their three values together."""
        c, pixels = self.config, images.flatten(2)
        orders = _draws.keyed(
            c.key, c.secret, generator, images, lambda one: torch.randperm(pixels.shape[2], generator=one)
        )
        return pixels.gather(2, orders[:, None].expand_as(pixels)).reshape(images.shape)


DEFENSE = PixelPermutation
