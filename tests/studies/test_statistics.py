"""What the boards print holds what is true: the simulations of the study, in small, and its committed numbers."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ppfr_bench.leaderboard.rendering import GAP_NOTE

STUDY = Path(__file__).parents[2] / "studies" / "statistics"
pytestmark = pytest.mark.skipif(not STUDY.is_dir(), reason="no checkout: no studies")


@pytest.fixture(scope="module")
def simulations() -> Any:
    sys.path.append(str(STUDY))
    try:
        return import_module("simulations")
    finally:
        sys.path.remove(str(STUDY))


@pytest.fixture(scope="module")
def committed() -> dict[str, list[dict[str, Any]]]:
    found = json.loads((STUDY / "measured.json").read_text(encoding="utf-8"))
    return {name: one["measured"] for name, one in found.items()}


def test_every_simulation_is_committed_with_its_repetitions(simulations: Any) -> None:
    found = json.loads((STUDY / "measured.json").read_text(encoding="utf-8"))
    assert {name: one["repetitions"] for name, one in found.items()} == {
        name: repetitions for name, (_, repetitions) in simulations.SIMULATIONS.items()
    }


def test_the_headline_holds_the_truth(committed: dict[str, list[dict[str, Any]]]) -> None:
    for one in committed["headline"]:
        assert one["coverage"] >= 0.92, one
        assert one["claims_too_much"] <= 0.06, one


def test_a_claim_near_one_is_hardly_ever_too_high(committed: dict[str, list[dict[str, Any]]]) -> None:
    assert [one["attacks"] for one in committed["near_one"]] == [1, 1, 1, 20, 20, 20]
    for one in committed["near_one"]:
        assert one["claims_too_much"] <= 0.05, one


def test_equal_rows_are_told_apart_in_five_of_a_hundred_boards_at_most(
    committed: dict[str, list[dict[str, Any]]],
) -> None:
    equal = [one for one in committed["ranks"] if "false_distinctions" in one]
    assert len(equal) == 5
    for one in equal:  # Of 400 boards: one standard error is 0.011.
        assert one["false_distinctions"] <= 0.05 + 2 * 0.011, one
    for one in committed["ranks"]:
        assert one.get("noisy_above", 0.0) == 0.0, one


def test_an_attack_without_skill_leaks_nothing(committed: dict[str, list[dict[str, Any]]]) -> None:
    before, now = committed["floors"]
    assert before["mean_leakage"] > 0.2 and now["mean_leakage"] < 0.02 and now["holds_0"] >= 0.92
    own, best = committed["ceilings"]
    assert own["mean_leakage"] > 5 * best["mean_leakage"] and best["half_or_more"] == 0


def test_shares_near_their_ends_are_held(committed: dict[str, list[dict[str, Any]]]) -> None:
    for one in committed["ends"]:
        assert one["coverage"] >= 0.88, one
    assert min(one["coverage_of_the_draws"] for one in committed["ends"]) < 0.7, "what it was before"


def test_pages_say_how_often_the_gap_of_equal_groups_leaves_out_0(committed: dict[str, list[dict[str, Any]]]) -> None:
    for one in committed["gaps"]:
        said = {2: 6, 3: 15}[one["groups"]]
        assert one["leaves_out_0"] == pytest.approx(said / 100, abs=0.01), one
        in_words = f"about {said} of 100" if said == 15 else f"of two groups in about {said}"
        places = (GAP_NOTE, (STUDY.parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8"))
        assert all(in_words in " ".join(place.split()) for place in places)


@pytest.mark.parametrize(
    ("name", "repetitions"),
    [("near_one", 20), ("ranks", 8), ("floors", 60), ("ceilings", 60), ("ends", 60), ("gaps", 100)],
)
def test_what_is_committed_comes_out_again(
    name: str, repetitions: int, simulations: Any, committed: dict[str, list[dict[str, Any]]]
) -> None:
    """In small: each share within five standard errors, and two of a hundred more, of what is committed."""
    simulate, _ = simulations.SIMULATIONS[name]
    for now, then in zip(simulate(repetitions), committed[name], strict=True):
        for key, value in then.items():
            if key in (
                "coverage",
                "coverage_of_the_draws",
                "holds_0",
                "false_distinctions",
                "told_apart",
                "claims_too_much",
                "leaves_out_0",
            ):
                slack = 5 * (value * (1 - value) / repetitions) ** 0.5 + 0.02 + 2 / repetitions
                assert now[key] == pytest.approx(value, abs=slack), (now, then)


def test_the_headline_comes_out_again(simulations: Any) -> None:
    """Twenty equal attacks: the interval before held the truth in a third of samples."""
    found = next(iter(simulations.headline(40)))
    assert found["row"] == "20 equal attacks" and found["coverage"] >= 0.8
