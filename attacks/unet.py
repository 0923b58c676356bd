"""U-Net inversion: a reconstruction network trained on pairs from the oracle."""

from __future__ import annotations

import torch

from ppfr_bench.api import AttackCard, AttackerView

from ._inverter import Inverter, InverterConfig, plain_network, set_scene


class Unet(Inverter):
    """Protects its own images through the oracle and trains, under L1, a U-Net back to the clear ones.

    A regression of the whole image answers first, as convolutions cannot undo a global permutation; the network sees
    that answer beside the protected image, its low bits and its texture, and corrects it. Before training it is the
    ridge attack, and where the input tells nothing the mean face. What it trains on are the regression's answers with
    the person left out, so that it does not learn to trust them more than they deserve.
    """

    version = 3
    card = AttackCard(
        title="U-Net inversion",
        family="reconstruction",
        reference="Ronneberger et al., U-Net, 2015; as recovery attack, Mi et al., MinusFace, CVPR 2024",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        builds_on=("ridge",),
        deviations=("Works at 64 pixels, with group norm, and corrects the answer of a closed-form regression.",),
    )
    Config = InverterConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the auxiliary people, validate on the rest."""
        self.scene = set_scene(view, self.config.size, self.shots)
        self.network, log = plain_network(view, self.config)
        self.log |= log


ATTACK = Unet
