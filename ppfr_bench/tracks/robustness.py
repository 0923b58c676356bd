"""Robustness: nothing is released; a recognizer is hardened, and is itself what is attacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ppfr_bench.records.record import Component
from ppfr_bench.tracks.base import (
    Column,
    Retention,
    Track,
    Utility,
    UtilityColumn,
    privacy_column,
    retention_column,
    score_column,
)

if TYPE_CHECKING:
    from ppfr_bench.api import Method

PRIVACY = {
    "robustness": "1 − the largest success of an attack that was run, by who knows all of the hardened recognizer, as "
    "a share of what the same attack does to the bare target: photos that it identifies right and that a change of l2 "
    "norm 1 or less (images in [0, 1], 112x112) makes it identify otherwise. A stronger attack can only lower it.",
    "certified": "The same of the worst change within the radius, found or not: 1 − the share of photos identified "
    "right and not certified. It is a proof, wrong with probability 0.001 a photo. It is not part of the score.",
    "larger_changes": "1 − the success of changes of l2 norm 8 or less (10 of 255 levels a value on average) that are "
    "found without gradients, as a share of that on the bare target. Attacks with gradients are not run with such "
    "changes. Where gradients break nothing and this is low, the gradients are only hidden. It is not part of the "
    "score.",
    "membership": "1 − the largest advantage (2 AUC − 1) in telling the photos that the target was trained on, or that "
    "the hardening was distilled from, from other photos of the same people. It is not part of the score.",
}


class Robustness(Track):
    """Utility is the accuracy that is left; robustness what attacks that were run do not break."""

    version = 1
    title = "robustness track"
    order = 50
    description = (
        "A closed-set identification service is hardened against changed photos. Nothing is released: the hardened "
        "recognizer is what is attacked, by somebody who knows all of it."
    )
    stages = "ppfr_bench.stages.robustness"
    utility_scorer = "hardened"
    lead = "How surely a hardened recognizer still names people whose photos somebody changes, and what that costs."
    priced = False
    utility_title = "What it still identifies"
    utility_description = (
        "On photos that nobody has changed; and the share of them that is certified: decided right wherever a change "
        "of that l2 norm leads (images in [0, 1] of 3x112x112 values; 1,000 votes a photo, alpha 0.001; to abstain is "
        "wrong)."
    )
    privacies = ("robustness", "certified", "membership")
    asks = ("What holds", "Against whom", "How surely")
    kept_title = "Accuracy that is left"
    hidden_titles: ClassVar[Mapping[str, str]] = {
        "robustness": "Decisions unbroken", "certified": "Decisions certified", "membership": "Membership hidden",
    }  # fmt: skip
    likeness = ()
    headline = "clean_accuracy"
    headline_title = "Accuracy on unchanged photos, %"
    utility_columns = (
        UtilityColumn("retention", "Retention", percent=False),
        UtilityColumn("clean_accuracy", "Accuracy, %", file="interval"),
        UtilityColumn("agreement", "Agreement, %", file="interval"),
        UtilityColumn("target_accuracy", "Target's accuracy, %"),
        UtilityColumn("service_queries", "Queries", percent=False, file="value"),
        UtilityColumn("certified_l2_0", "Certified, r = 0, %", file="value"),
        UtilityColumn("certified_l2_0.25", "r = 0.25, %", file="value"),
        UtilityColumn("certified_l2_0.5", "r = 0.5, %", file="value"),
        UtilityColumn("certified_l2_0.75", "r = 0.75, %", file="value"),
        UtilityColumn("certified_l2_1", "r = 1, %", file="value"),
        UtilityColumn("certified_l2_1.5", "r = 1.5, %", file="value"),
        UtilityColumn("certified_l2_2", "r = 2, %", file="value"),
        UtilityColumn("certified_radius", "Mean radius", percent=False, file="value"),
    )

    def accepts(self, defense: type[Method]) -> bool:
        """Whatever hardens a service."""
        from ppfr_bench.robustness.api import Hardening  # Pages do not load torch.

        return issubclass(defense, Hardening)

    def utilities(self, recognizers: Sequence[Component], adapted: Component | None) -> Sequence[Component | None]:
        """Measured once, by the hardened recognizer itself."""
        return [None]

    def retention(self, utilities: Sequence[Utility]) -> Retention:
        """Of the one cell that there is."""
        return Retention(utilities[0].retention) if utilities else super().retention(utilities)

    def axes(self) -> tuple[str, str]:
        """Accuracy and robustness."""
        return "retention: accuracy that is left", "robustness: what no attack breaks"

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """Score, retention and the privacies."""
        return (
            score_column("Harmonic mean of retention and robustness against the attacks that were run."),
            retention_column(
                "(accuracy − chance) / (accuracy of the bare target − chance) on unchanged photos; chance is one in as "
                "many as there are people."
            ),
            *(privacy_column(name, PRIVACY.get(name, "")) for name in privacies),
        )


TRACK = Robustness
