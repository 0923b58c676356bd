"""A purifier: a network that an attacker trains to take a cloak off, on pairs from the oracle."""

from __future__ import annotations

import torch

from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray
from ppfr_bench.cloak.purifying import PurifierConfig, new_purifier, purified, train_purifier


class Purifier(Attack):
    """Sends its own photos through the oracle and trains a U-Net from cloaked to clear images.

    It minimises what people see and what the suite's surrogate tells the images apart by. Its answer is recognised by
    recognizers that it never saw: see attack ``recognition`` and its ``probe``.
    """

    version = 1
    card = AttackCard(
        title="Trained purifier",
        plain="Has its own photos cloaked and trains a neural network to remove the cloak from any photo.",
        family="purification",
        reference="PuFace: Defending against Facial Cloaking Attacks for Facial Recognition Models, arXiv 2406.02253, "
        "2024",
        licence="MIT",
        measures="purification",
        knowledge="aware",
        learned=True,
        needs_surrogate=True,
        tracks=("cloak",),
        deviations=(
            "A U-Net that is trained for minutes on one cloak; the paper's is trained on amplified cloaks of several.",
        ),
    )
    Config = PurifierConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the attacker's people."""
        self.network = new_purifier(view, self.config.width, generator)
        self.log |= train_purifier(self.network, view, self.config, generator) | {"shots": 1}

    def run(self, view: AttackerView) -> ByteArray:
        """The targets without their cloak, uint8 (n, 3, 112, 112)."""
        return purified(self.network, view.targets[0])


ATTACK = Purifier
