"""All changes within the radius at once, by what is not certified: the most that any attack can do."""

from __future__ import annotations

from ppfr_bench.api import Attack, AttackCard, AttackerView, FloatArray
from ppfr_bench.robustness.api import RobustnessView


class WithinCertificate(Attack):
    """Changes nothing. It stands for the strongest attack, found or not: a photo whose certified l2 radius is smaller
    than the reference budget counts as lost.
    """

    version = 1
    card = AttackCard(
        title="Any change within the radius",
        plain="Stands for every possible attack, known or not. It counts a photo as lost where no mathematical "
        "proof excludes that a small change fools the recognizer.",
        family="evasion",
        reference="Cohen et al., ICML 2019",
        licence="MIT",
        measures="worst_case",
        knowledge="informed",
        tracks=("robustness",),
    )

    def run(self, view: AttackerView | RobustnessView) -> FloatArray:
        """The certified l2 radius of each photo, float64 (n,), 0 where the decision is wrong or none."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self.log["shots"] = 1
        return view.certified["l2"]


ATTACK = WithinCertificate
