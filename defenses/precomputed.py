"""Precomputed: images that another tool has protected, as if it had been asked on the spot."""

from __future__ import annotations

from functools import cached_property

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, to_bytes, to_float
from ppfr_bench.protection.precomputed import Store


class PrecomputedConfig(Config):
    """``images``: the digest under which ``ppfr-bench run --precomputed FOLDER`` keeps them."""

    images: str = Field("", pattern=r"^([0-9a-f]{64})?$")


class Precomputed(Defense):
    """One protected version of each image of a suite. Attacks that send images of their own choosing are skipped."""

    version = 1
    card = DefenseCard(
        title="Protected elsewhere",
        plain="Images that another tool has protected. The benchmark does not run the tool and measures the images "
        "as they are.",
        family="adapter",
        reference="images made by another tool",
        licence="that of the tool",
        live=False,
    )
    Config = PrecomputedConfig

    @cached_property
    def _store(self) -> Store:
        return Store(self.config.images)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the tool made of them.

        Raises:
            Unavailable: an image that was not exported.
            UserError: the images are not on this machine.
        """
        return to_float(self._store[to_bytes(images)]).to(images.device)


DEFENSE = Precomputed
