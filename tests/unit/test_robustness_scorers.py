"""What becomes of arrays whose numbers can be counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ppfr_bench.robustness.api import LARGER, REFERENCE
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.evasion import Evasion
from ppfr_bench.scorers.evasion_larger_changes import EvasionLargerChanges
from ppfr_bench.scorers.hardened import Hardened
from ppfr_bench.scorers.membership import Membership
from ppfr_bench.scorers.worst_case import WorstCase

IDENTITIES = np.repeat([10, 20], 4)
SERVICE = {
    "rows": np.arange(8), "labels": np.repeat([0, 1], 4), "people": np.asarray([10, 20]),
    "enrolled": np.asarray([0, 4]), "queried": np.asarray([1, 5]), "test": np.asarray([2, 3, 6, 7]),
    "decisions": np.asarray([0, 0, 1, 1]),
}  # fmt: skip
TRUTH: Any = SimpleNamespace(dataset=SimpleNamespace(evaluation=SimpleNamespace(identities=IDENTITIES)))
BOOTSTRAP = Bootstrap(40, 0, np.unique(IDENTITIES))


def certified(decisions: list[int], classes: list[int], radii: list[float]) -> dict[str, Any]:
    radius = np.asarray(radii)
    return {
        "decisions": np.asarray(decisions), "classes": np.asarray(classes), "radius_l2": radius,
        "radius_l1": radius, "radius_linf": radius / 255,
    }  # fmt: skip


BARE = certified([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0])
MADE = certified([0, 0, 1, 0], [0, -1, 1, 0], [1.2, 0.0, 0.3, 2.0])  # The last is wrong, the second not sure.


def attacked(decisions: list[list[int]], impersonates: bool = False) -> dict[str, Any]:
    budgets = np.asarray([REFERENCE / 2, REFERENCE])
    return {
        "budgets": budgets, "decisions": np.asarray(decisions), "surely": np.full((2, 4), -1),
        "norms": np.broadcast_to(budgets[:, None], (2, 4)), "wanted": np.asarray([1, 1, 0, 0]),
        "impersonates": np.asarray(impersonates),
    }  # fmt: skip


def evasion(answer: dict[str, Any], ceiling: dict[str, Any], made: dict[str, Any] = MADE) -> dict[str, Any]:
    inputs: Any = {"answer": answer, "ceiling": ceiling, "certified": made, "ceiling_certified": BARE,
                   "service": SERVICE}  # fmt: skip
    return Evasion().score(inputs, TRUTH, BOOTSTRAP)


def test_utility_is_accuracy_above_chance_and_an_abstention_is_not_certified() -> None:
    inputs: Any = {"service": SERVICE, "hardened": {"queries": np.asarray(7)}, "certified": MADE, "ceiling": BARE}
    found, log = Hardened().utility(inputs, None, TRUTH, BOOTSTRAP)
    values = {name: one.value.value for name, one in found.items()}
    assert (values["clean_accuracy"], values["target_accuracy"], values["agreement"]) == (0.75, 1.0, 0.75)
    assert values["retention"] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert values["service_queries"] == 7 and log["abstained"] == 0.25
    curve = [values[f"certified_l2_{r}"] for r in ("0", "0.25", "0.5", "1", "1.5")]
    assert curve == [0.5, 0.5, 0.25, 0.25, 0.0]  # The wrong decision of radius 2 counts nowhere.
    assert values["certified_radius"] == pytest.approx(1.5 / 4)


def test_larger_changes_are_told_of_by_a_norm_of_their_own() -> None:
    answer, ceiling = (attacked(found) for found in ([[1, 0, 1, 0], [1, 1, 0, 0]], [[1, 1, 0, 0]] * 2))
    inputs: Any = {"answer": answer, "ceiling": ceiling, "certified": MADE, "ceiling_certified": BARE,
                   "service": SERVICE}  # fmt: skip
    for one in (answer, ceiling):
        one["budgets"] = np.asarray([REFERENCE, LARGER])
    found = EvasionLargerChanges().score(inputs, TRUTH, BOOTSTRAP)
    leaks = {name for name, one in found.items() if one.leakage is not None}
    assert leaks == {f"dodging_l2_{LARGER:g}"} and EvasionLargerChanges.sets != Evasion.sets


def test_dodging_counts_photos_that_were_right_and_keeps_what_a_smaller_budget_did() -> None:
    answer = attacked([[1, 0, 1, 0], [0, 0, 0, 0]])  # The first is turned by the smaller budget alone.
    found = evasion(answer, attacked([[1, 1, 1, 1], [1, 1, 0, 0]]))
    small, whole = (found[f"dodging_l2_{budget:g}"] for budget in answer["budgets"])
    assert (small.value.value, whole.value.value) == (0.25, 0.5)
    assert small.leakage is None and whole.leakage is not None
    assert whole.leakage.value == pytest.approx(0.5 / 1.0)  # All four of the bare target are turned.
    assert found[f"robust_l2_{REFERENCE:g}"].value.value == 0.25
    assert found[f"certified_l2_{REFERENCE:g}"].value.value == 0.25
    assert found["violations"].value.value == 0
    assert "50% of the photos" in found["median_perturbation"].value.reason
    more = evasion(attacked([[1, 0, 1, 0], [1, 1, 0, 0]]), attacked([[1, 1, 0, 0]] * 2))
    assert more["median_perturbation"].value.value == REFERENCE  # Of 1/2, 1, 1, and one that was wrong as it is.


def test_impersonation_counts_the_person_that_is_wanted() -> None:
    found = evasion(attacked([[1, 0, 1, 0], [1, 1, 1, 1]], True), attacked([[1, 1, 0, 0]] * 2, True))
    assert found[f"impersonation_l2_{REFERENCE:g}"].value.value == 0.5  # The last two want person 0.
    assert f"dodging_l2_{REFERENCE:g}" not in found


def test_a_refuted_certificate_and_accuracy_below_it_are_flagged() -> None:
    answer = attacked([[0, 0, 1, 0], [1, 0, 1, 0]])
    answer["surely"][1, 0] = 1
    found = evasion(answer, attacked([[1, 1, 0, 0]] * 2))
    assert found["violations"].value.value == 1
    flags = Evasion().flags(found, learned=False, same_key=True)
    assert flags == ["certificate_violated"]
    worse = evasion(attacked([[1, 0, 1, 0]] * 2), attacked([[1, 1, 0, 0]] * 2))
    assert "below_certificate" not in Evasion().flags(worse, learned=False, same_key=True)  # 1/4 is certified and left.
    worst = evasion(attacked([[1, 1, 0, 0]] * 2), attacked([[1, 1, 0, 0]] * 2))
    assert Evasion().flags(worst, learned=False, same_key=True) == ["below_certificate"]


def test_what_is_right_and_not_certified_is_lost_to_the_worst_case() -> None:
    inputs: Any = {
        "answer": {"answer": np.asarray([1.2, 0.0, 0.3, 0.0])}, "ceiling": {"answer": np.zeros(4)}, "service": SERVICE,
        "certified": MADE, "ceiling_certified": BARE,
    }  # fmt: skip
    (found,) = WorstCase().score(inputs, TRUTH, BOOTSTRAP).values()
    assert found.value.value == 0.5 and found.leakage is not None and found.leakage.value == 0.5


def test_membership_is_told_of_either_kind_of_members_apart() -> None:
    scores = np.asarray([9.0, 1.0, 2.0, 3.0, 8.0, 0.0, 2.5, 3.5])  # Enrolled photos stand out, queried ones do not.
    inputs: Any = {"answer": {"answer": scores}, "ceiling": {"answer": scores[::-1]}, "service": SERVICE}
    found = Membership().score(inputs, TRUTH, BOOTSTRAP)
    assert found["membership_auc"].value.value == 1 and found["membership_auc_queried"].value.value == 0
    enrolled, queried = found["membership_advantage"].leakage, found["membership_advantage_queried"].leakage
    assert enrolled is not None and enrolled.value == 1 and queried is not None and queried.value == 0


@pytest.mark.parametrize(
    ("scorer", "good", "bad"),
    [
        (Evasion(), np.zeros((2, 4, 3, 112, 112), np.float16), np.zeros((2, 4, 3, 112, 112), np.uint8)),
        (Membership(), np.zeros(8), np.full(8, np.nan)),
        (WorstCase(), np.zeros(4), np.zeros((4, 2))),
    ],
)
def test_an_answer_of_another_kind_is_refused(scorer: Any, good: np.ndarray, bad: np.ndarray) -> None:
    assert not scorer.wrong_answer(good, 4, 4) and scorer.wrong_answer(bad, 4, 4)
