"""Templates: what is released is a protected embedding or ciphertexts, and a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ppfr_bench.tracks.base import Column, Track, UtilityColumn, privacy_column, retention_column, score_column

if TYPE_CHECKING:
    from ppfr_bench.api import Method

PRIVACY = {
    "irreversibility": "1 − the largest leakage over the attacks that rebuild the face or name the person from what is "
    "released, and over those that ask the service a few times. The face itself is processed in the clear.",
    "unlinkability": "1 − the largest leakage over the attacks that link people between two systems, each with a key "
    "of its own.",
    "unlimited_queries": "1 − what an attacker recovers of a template who asks the service without a limit. It is not "
    "part of the score: a limit belongs to the service and not to the method.",
}


class Template(Track):
    """Utility is what decisions keep of the accuracy of plain templates; both privacies are scored, the lesser one."""

    version = 1
    title = "template track"
    order = 30
    description = (
        "What is released is a protected template, or ciphertexts, and a decision; the face is processed in the clear. "
        "ISO/IEC 30136 leaves encryption out of its scope; ISO/IEC 24745 asks for irreversibility, unlinkability and "
        "renewability."
    )
    stages = "ppfr_bench.stages.template"
    lead = (
        "How much each method keeps of a face's template from whoever steals it or asks for it, and whether its "
        "decisions are still those of plain templates."
    )
    priced = False
    utility_title = "What its decisions are worth"
    utility_description = (
        "Decisions of the running system beside those of plain templates, at the threshold of the other folds; and "
        "what a search of 1,000 templates sends."
    )
    utility_scorer = "matching"
    privacies = ("irreversibility", "unlinkability", "unlimited_queries")
    scored = ("irreversibility", "unlinkability")
    kept_title = "What decisions keep"
    hidden_titles: ClassVar[Mapping[str, str]] = {
        "irreversibility": "Face and name hidden", "unlinkability": "Links hidden",
    }  # fmt: skip
    likeness = ()
    headline = "accuracy"
    headline_title = "Accuracy of decisions, %"
    utility_columns = (
        UtilityColumn("retention", "Retention", percent=False),
        UtilityColumn("accuracy", "Accuracy, %", file="interval"),
        UtilityColumn("plain_accuracy", "Accuracy of plain templates, %"),
        UtilityColumn("same_decisions", "Same decisions as quantised plain templates, %", file="interval"),
        UtilityColumn("fnmr", "FNMR, %"),
        UtilityColumn("fmr", "FMR, %"),
        UtilityColumn("auc", "AUC, %"),
        UtilityColumn("eer", "EER, %"),
        UtilityColumn("fnmr_at_fmr_1e-2", "FNMR at FMR 1%, %"),
        UtilityColumn("bytes_up", "Bytes sent a search of 1,000", percent=False, file="value"),
        UtilityColumn("bytes_down", "Bytes received a search of 1,000", percent=False, file="value"),
    )

    def accepts(self, defense: type[Method]) -> bool:
        """Whatever protects templates."""
        from ppfr_bench.template.api import TemplateProtection  # Only who has loaded a defense asks.

        return issubclass(defense, TemplateProtection)

    def axes(self) -> tuple[str, str]:
        """What is kept is the accuracy of decisions."""
        return "retention: accuracy of decisions, of that of plain templates", super().axes()[1]

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """Score, retention and the privacies."""
        return (
            score_column("Harmonic mean of retention and the lesser of irreversibility and unlinkability."),
            retention_column(
                "(accuracy of decisions − ½) / (accuracy of plain templates − ½), the mean over recognizers that no "
                "attack could train on. 0 is a random template, 1 is a plain one."
            ),
            *(privacy_column(name, PRIVACY.get(name, "")) for name in privacies),
        )


TRACK = Template
