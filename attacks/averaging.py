"""Averaging: several releases of one photo fused, then inverted."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Generator

from ppfr_bench.api import AttackCard, AttackerView, Scope
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.learning.inverter import WarmInverter, WarmInverterConfig, read_plain_networks


class AveragingConfig(WarmInverterConfig):
    """``releases``: shots of each target that are fused; ``warm``: steps of the plain U-Net it starts from."""

    releases: int = Field(4, ge=1, le=64)
    learning_rate: float = Field(2e-3, gt=0)


class Averaging(WarmInverter):
    """Holds several independent releases of each target, and makes as many of its own images through the oracle.

    The closed-form estimate and the network work on the mean and the spread over the releases: zero-mean noise shrinks
    with the root of their number, and pixels that it leaves alone have no spread. Where every release of a photo is
    the same there is nothing to average, and it is the U-Net attack.
    """

    version = 4
    card = AttackCard(
        title="Averaging several releases",
        plain="Collects several protected versions of the same photo and averages them before it rebuilds the face."
        " Noise that is new in every version cancels out.",
        family="averaging",
        reference="multi-shot attack on randomized defenses, threat model of this benchmark; EOT, Athalye et al. 2018",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        builds_on=("unet",),
    )
    Config = AveragingConfig

    @property
    def shots(self) -> int:
        """As many as are fused."""
        return int(self.config.releases)

    def decided_by(self, scope: Scope) -> Any:
        """The plain U-Net alone, where all releases are the same."""
        config = self.config if scope.shots > 1 else self.config.plain
        return config.model_dump(mode="json")

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Go on training from the plain U-Net on several releases, if there are any."""
        if view.scope.shots > 1:
            super().fit(view, generator)
            return
        self.data = read_inversion_data(view, self.config.size, 1)
        self.networks, log = read_plain_networks(view, self.config.plain)
        self.log |= log


ATTACK = Averaging
