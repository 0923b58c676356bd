"""Averaging: several releases of one photo fused, then inverted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field
from torch import Generator

from ppfr_bench.api import Answers, AttackCard, AttackerView, Material, Scope
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import Inverter, WarmInverter, WarmInverterConfig, read_plain_networks
from ppfr_bench.metrics import is_better


class AveragingConfig(WarmInverterConfig):
    """``releases``: shots of each target that are fused; ``warm``: steps of the plain U-Net it starts from."""

    releases: int = Field(4, ge=1, le=64)
    learning_rate: float = Field(2e-3, gt=0)


class Averaging(WarmInverter):
    """Holds several independent releases of each target, and makes as many of its own images through the oracle.

    The closed-form estimate and the network work on the mean and the spread over the releases: zero-mean noise shrinks
    with the root of their number, and pixels that it leaves alone have no spread. Where held-out people say that the
    plain U-Net does better on one release, that answers the measure. Where every release of a photo is the same there
    is nothing to average, and it is the U-Net attack.
    """

    version = 5
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

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of several releases and of one, and the plain U-Net."""
        return inversion_data(scope, self.config.size, 1), *super().starts_from(scope)

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Go on training from the plain U-Net on several releases, if there are any."""
        self._of_one = of_one = Inverter(self.config.plain)
        of_one.data = read_inversion_data(view, self.config.size, 1)
        of_one.networks, log = read_plain_networks(view, self.config.plain)
        of_one.log |= log
        if view.scope.shots > 1:
            super().fit(view, generator)
            return
        self.data, self.networks = of_one.data, of_one.networks
        self.log |= log

    def run(self, view: AttackerView) -> Answers:
        """As of every inverter, but that measures may be answered from one release."""
        answers = super().run(view)
        if view.scope.shots == 1 or not self.config.apart:
            return answers
        of_one, reached = self._of_one.run(view), self.log["held_out"]
        better = {
            metric: of_one.by_measure.get(metric, of_one.main)
            for metric, value in self._of_one.log["held_out"].items() if is_better(metric, value, reached[metric])
        }  # fmt: skip
        self.log["answered_by"] |= dict.fromkeys(better, "one release")
        self.log["held_out"] |= {metric: self._of_one.log["held_out"][metric] for metric in better}
        at = dict(answers.at)
        if at and better:
            at[self.config.steps] = answers.main
        return replace(answers, by_measure={**answers.by_measure, **better}, at=at)


ATTACK = Averaging
