"""Membership by confidence: a recognizer is surer of photos that it has learnt from."""

from __future__ import annotations

from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config, FloatArray
from ppfr_bench.robustness.api import RobustnessView
from ppfr_bench.robustness.membership import confidences


class MembershipConfidenceConfig(Config):
    """``draws`` of noise over which the confidence in a photo is averaged."""

    draws: int = Field(64, ge=1)


class MembershipConfidence(Attack):
    """Scores each photo by the logit of the probability that the hardened recognizer gives its person."""

    version = 1
    card = AttackCard(
        title="Membership by confidence",
        plain="Guesses which photos a recognition service was trained on: a service tends to be surer of photos "
        "that it has seen in training.",
        family="membership inference",
        reference="Yeom et al., CSF 2018; Salem et al., NDSS 2019",
        licence="MIT",
        measures="membership",
        knowledge="aware",
        tracks=("robustness",),
    )
    Config = MembershipConfidenceConfig

    def fit(self, view: AttackerView | RobustnessView, generator: Generator) -> None:
        """Nothing to learn; noise is drawn from this generator."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self._generator = generator

    def run(self, view: AttackerView | RobustnessView) -> FloatArray:
        """Scores float64 (candidates,), larger of members."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self.log["shots"] = 1
        return confidences(view, self.config.draws, self._generator)


ATTACK = MembershipConfidence
