"""Substituted levels: the 256 levels of a channel change places, by a key that all images share."""

from __future__ import annotations

import torch

from ppfr_bench.api import Config, Defense, DefenseCard


class SubstitutedLevelsConfig(Config):
    """``secret``: the key."""

    secret: int = 1


class SubstitutedLevels(Defense):
    """A substitution cipher: to the eye it is noise, and each level can be looked up."""

    version = 1
    card = DefenseCard(
        title="Levels that change places",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )
    Config = SubstitutedLevelsConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each channel by a table of its own."""
        key = torch.Generator().manual_seed(self.config.secret)
        levels = (images * 255).round().long()
        tables = torch.stack([torch.randperm(256, generator=key) for _ in range(3)])
        return torch.stack([tables[channel][levels[:, channel]] for channel in range(3)], dim=1).float() / 255


DEFENSE = SubstitutedLevels
