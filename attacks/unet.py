"""U-Net inversion: a reconstruction network trained on pairs from the oracle."""

from __future__ import annotations

import torch

from ppfr_bench.api import AttackCard, AttackerView, Material, Scope
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.learning.inverter import Inverter, InverterConfig, plain_unet, read_plain_networks


class Unet(Inverter):
    """Protects its own images through the oracle and trains a U-Net back to the clear ones, under what it is judged by.

    A regression of the whole image estimates the clear one first, as convolutions cannot undo a global permutation; the
    network sees that estimate beside the protected image, its high-pass, its low bits and its texture, and corrects it.
    Before training it is the ridge attack, and where the input tells nothing the mean face. It trains on estimates with
    the person left out, so that it does not learn to trust them more than they deserve.
    """

    version = 5
    card = AttackCard(
        title="U-Net inversion",
        plain="Has its own photos protected and trains a neural network on the pairs to turn protected images back "
        "into clear faces.",
        family="reconstruction",
        reference="Ronneberger et al., U-Net, 2015; as recovery attack, Mi et al., MinusFace, CVPR 2024",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        builds_on=("ridge",),
        deviations=("Has group norm, and corrects the answer of a closed-form regression.",),
    )
    Config = InverterConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data, and the plain U-Net, which is this attack's own."""
        return (*super().starts_from(scope), plain_unet(scope, self.config))

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Read the networks, which were trained on nine tenths of the auxiliary people and validated on the rest."""
        self.data = read_inversion_data(view, self.config.size, self.shots)
        self.networks, log = read_plain_networks(view, self.config)
        self.log |= log


ATTACK = Unet
