"""Averaging: several releases of one photo fused, then inverted."""

from __future__ import annotations

from pydantic import Field

from ppfr_bench.api import AttackCard

from ._inverter import InverterConfig, WarmInverter


class AveragingConfig(InverterConfig):
    """``releases``: shots of each target that are fused; ``warm``: steps of the plain network it starts from."""

    steps: int = Field(200, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    releases: int = Field(4, ge=1, le=64)


class Averaging(WarmInverter):
    """Holds several independent releases of each target, and makes as many of its own images through the oracle.

    Mean and spread over the releases are what the closed-form answer and the network work on: zero-mean noise shrinks
    with the root of their number, and what the draws spare shows in their spread. Where every release of a photo is
    the same there is nothing to average, and it is the U-Net attack trained for longer.
    """

    version = 1
    card = AttackCard(
        title="Averaging several releases",
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


ATTACK = Averaging
