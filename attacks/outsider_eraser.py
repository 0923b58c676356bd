"""An eraser that an outsider trains: who has the method's files and an oracle, but not the key."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.cloak.purifying import PurifierConfig, purified, train_purifier

_OWN_KEY = 1  # Of the outsider: any key but the right one.


class OutsiderEraser(Attack):
    """Starts from the eraser that ships, under a key of its own, and trains it on pairs from the oracle.

    A cloak whose method has no eraser gives it nothing to start from: it answers with what is released.
    """

    version = 1
    card = AttackCard(
        title="Eraser trained by an outsider",
        plain="An outsider has the files of a cloak with an eraser, but not the key, and trains an eraser of their "
        "own on photos that they had cloaked.",
        family="purification",
        reference="after FaceLinkGen, arXiv 2602.02914: whoever holds the protector can train its inverse",
        licence="MIT",
        measures="purification",
        knowledge="informed",
        learned=True,
        needs_surrogate=True,
        tracks=("cloak",),
    )
    Config = PurifierConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the attacker's people; the key of ``view.defense`` is not looked at."""
        defense = view.defense
        self.network: nn.Module | None = defense.eraser(_OWN_KEY) if isinstance(defense, Cloak) else None
        self.log["shots"] = 1
        if self.network is not None:
            self.log |= train_purifier(self.network, view, self.config, generator)

    def run(self, view: AttackerView) -> ByteArray:
        """The targets without their cloak, uint8 (n, 3, 112, 112)."""
        return np.array(view.targets[0]) if self.network is None else purified(self.network, view.targets[0])


ATTACK = OutsiderEraser
