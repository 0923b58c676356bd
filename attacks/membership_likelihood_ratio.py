"""Membership by a likelihood ratio: confidence beside that of services which have, and have not, seen the photo."""

from __future__ import annotations

from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config, FloatArray
from ppfr_bench.robustness.api import RobustnessView
from ppfr_bench.robustness.membership import confidences, likelihood_ratios, shadow_confidences


class MembershipLikelihoodRatioConfig(Config):
    """``shadows``: services of its own that it trains; ``draws`` of noise a photo."""

    shadows: int = Field(32, ge=4)
    draws: int = Field(64, ge=1)


class MembershipLikelihoodRatio(Attack):
    """Trains services like the target on random halves of the candidates, and fits two normal distributions to each
    photo's confidence: where it was learnt from and where not.

    A hardened recognizer's confidences are first brought to the mean and spread of the shadow services'.
    """

    version = 1
    card = AttackCard(
        title="Membership by likelihood ratio",
        plain="Guesses which photos a recognition service was trained on. It trains copies of the service with and "
        "without each photo and checks which kind the service resembles.",
        family="membership inference",
        reference="Carlini et al., Membership Inference Attacks From First Principles (LiRA), S&P 2022",
        licence="MIT",
        measures="membership",
        knowledge="informed",
        learned=True,
        tracks=("robustness",),
        builds_on=("membership_confidence",),
        deviations=(
            "Shadows are of the service and not of its hardening, whose training takes a minute each; the variance is "
            "one for all photos, as LiRA has it for few shadows.",
        ),
    )
    Config = MembershipLikelihoodRatioConfig

    def fit(self, view: AttackerView | RobustnessView, generator: Generator) -> None:
        """Train the shadow services."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self._generator = generator
        self._shadows = shadow_confidences(
            view.embeddings, view.candidate_labels, self.config.shadows, view.hardened.classes, generator
        )
        self.log["training_images"] = len(view.candidates)

    def run(self, view: AttackerView | RobustnessView) -> FloatArray:
        """Scores float64 (candidates,), larger of members."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self.log["shots"] = 1
        return likelihood_ratios(confidences(view, self.config.draws, self._generator), *self._shadows)


ATTACK = MembershipLikelihoodRatio
