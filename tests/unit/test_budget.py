"""Answers by measure and by budget: what is scored of them, and when a curve is still rising."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import numpy as np
import pytest
from pydantic import ValidationError

from ppfr_bench import registry, testing
from ppfr_bench.api import Answers
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.leaderboard import pages
from ppfr_bench.learning.unet import budgets
from ppfr_bench.metrics import IMAGE_METRICS, LEAKING
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.record import Record
from ppfr_bench.scorers.attributes import Attributes
from ppfr_bench.scorers.base import Truth, sizes
from ppfr_bench.scorers.linkage import Linkage
from ppfr_bench.scorers.reconstruction import Reconstruction

RANDOM = np.random.default_rng(0)
ORIGINALS = RANDOM.integers(0, 256, (4, 3, 112, 112), dtype=np.uint8)
OTHER = RANDOM.integers(0, 256, (4, 3, 112, 112), dtype=np.uint8)


def truth() -> Truth:
    who = np.arange(4)
    data: Any = SimpleNamespace(evaluation=ArrayFaces(ORIGINALS, who, tuple("abcd")), targets=who, gallery=who)
    return Truth(data, 32)


def test_a_measure_is_scored_by_the_answer_that_names_it() -> None:
    """Random pixels, but the original for SSIM alone: its SSIM is 1, and every other measure is as bad as before."""
    alone = Reconstruction().compare(Answers(OTHER).arrays, truth())
    both = Reconstruction().compare(Answers(OTHER, {"ssim": ORIGINALS}).arrays, truth())
    assert both["ssim"] == pytest.approx(1) and (alone["ssim"] < 0.5).all()
    for name in set(IMAGE_METRICS) - {"ssim"}:
        np.testing.assert_array_equal(both[name], alone[name])


def test_what_leaks_after_a_part_of_the_budget() -> None:
    """The original itself after 10 steps, and nothing of it after 20: read in the order of sizes, not of names."""
    scorer = Reconstruction()
    answer = scorer.compare(Answers(ORIGINALS, at={100: OTHER, 20: OTHER, 10: ORIGINALS}).arrays, truth())
    none, whole = scorer.compare({"answer": OTHER}, truth()), scorer.compare({"answer": ORIGINALS}, truth())
    found = scorer.by_budget({"answer": answer, "floor": none, "ceiling": whole}, truth())
    assert found == {10: dict.fromkeys(LEAKING, 1.0), 20: dict.fromkeys(LEAKING, 0.0), 100: dict.fromkeys(LEAKING, 0.0)}
    assert list(sizes(answer, "ssim")) == [10, 20, 100] and sizes(whole) == {}


def test_who_is_named_after_a_part_of_the_budget() -> None:
    right, wrong = np.eye(4), np.roll(np.eye(4), 1, axis=1)
    inputs = {"answer": Answers(right, at={5: wrong}, budget="images").arrays, "ceiling": {"answer": right}}
    assert Linkage().by_budget(inputs, truth()) == {5: {"rank_1": 0.0}}


def test_who_is_named_on_what_was_rebuilt_after_half_of_the_budget() -> None:
    """Of three parts that of half the budget is looked at, as each costs as much as the answer."""
    attack = registry.build("attack", "linkage", {"probe": "unet"})
    source = Answers(ORIGINALS, at={5: OTHER, 10: OTHER, 15: OTHER, 20: ORIGINALS}, whole=20)
    view = replace(
        testing.attacker_view(attack, registry.build("defense", "pixelate", {}), truth().dataset.evaluation, ORIGINALS,
                              ORIGINALS, shots=1),
        source_answers={"unet": source},
    )  # fmt: skip
    found = attack.run(view)
    assert list(found.at) == [10] and (found.budget, found.whole) == ("steps", 20)
    assert (found.main.argmax(1) == np.arange(4)).all()
    of_other = attack.run(replace(view, source_answers={"unet": Answers(OTHER)})).main
    assert np.array_equal(found.at[10], of_other)
    assert Answers.of_arrays(source.arrays, "steps", 20).at.keys() == source.at.keys()


def test_all_answers_that_rebuild_a_target_are_linked_together_and_mirrored() -> None:
    """Answers by measure that differ count as much as the main one; an equal one does not count twice."""
    attack = registry.build("attack", "linkage", {"probe": "unet"})
    view = testing.attacker_view(
        attack, registry.build("defense", "pixelate", {}), truth().dataset.evaluation, ORIGINALS, ORIGINALS, shots=1
    )

    def linked(source: Answers) -> Any:
        return attack.run(replace(view, source_answers={"unet": source})).main

    main = linked(Answers(ORIGINALS))
    assert attack.log["shots"] == 1
    assert np.array_equal(linked(Answers(ORIGINALS[..., ::-1])), main)
    assert np.array_equal(linked(Answers(ORIGINALS, {"ssim": ORIGINALS.copy()})), main)
    both = linked(Answers(ORIGINALS, {"ssim": OTHER, "ms_ssim": OTHER.copy()}))
    # The order of four embeddings in a mean decides its last digit, on some processors and not on others.
    assert np.allclose(both, linked(Answers(OTHER, {"ssim": ORIGINALS})), rtol=0, atol=1e-6)
    assert not np.allclose(both, main, atol=1e-2) and not np.allclose(both, linked(Answers(OTHER)), atol=1e-2)
    kept = Answers.of_arrays(Answers(ORIGINALS, {"ssim": OTHER}, {5: OTHER}).arrays)
    assert [*kept.by_measure] == ["ssim"] and [*kept.at] == [5] and len(kept.different) == 2


def test_which_attributes_are_read_after_a_part_of_the_budget() -> None:
    """All of them after 5 steps, and no more than of a black image after 2."""
    real = read_attributes(ORIGINALS)
    black = np.broadcast_to(real.mean(0), real.shape)
    inputs = {
        "answer": Answers(real, at={2: black, 5: real}).arrays,
        "floor": {"answer": black},
        "ceiling": {"answer": real},
    }
    found = Attributes().by_budget(inputs, truth())
    assert found == {2: dict.fromkeys(ATTRIBUTES, 0.0), 5: dict.fromkeys(ATTRIBUTES, 1.0)}


def test_a_curve_rises_where_the_last_doubling_adds_leakage() -> None:
    """By the measure that leaks most: what others gain late does not set a privacy."""
    parts = {25: {"ssim": 0.1, "lpips": 0.0}, 50: {"ssim": 0.30, "lpips": 0.05}}
    found = BudgetCurve.of("steps", parts, 100, {"ssim": 0.31, "lpips": 0.2, "psnr": None})
    assert found.sizes == (25, 50, 100) and found.leakage == {"ssim": (0.1, 0.3, 0.31), "lpips": (0.0, 0.05, 0.2)}
    assert found.last_doubling == pytest.approx(0.01) and not found.still_rising
    assert BudgetCurve.of("steps", parts, 100, {"ssim": 0.33, "lpips": 0.2}).still_rising
    whole = BudgetCurve.of("steps", {50: {"ssim": 0.3}, 100: {"ssim": 0.31}}, 100, {"ssim": 0.5})
    assert whole.leakage == {"ssim": (0.3, 0.31)}, "of one kind of answer, though another is better in the end"
    assert BudgetCurve.of_log({"budget": found.model_dump(mode="json")}) == found
    assert BudgetCurve.of_log({}) is None and BudgetCurve.of_log({"budget": {"unit": "hours"}}) is None


def spent(record: Record, **leakage: tuple[float, ...]) -> Record:
    """A record that notes what leaks after a quarter, a half and all of its steps."""
    return record.model_copy(update={"log": {"budget": {"unit": "steps", "sizes": [25, 50, 100], "leakage": leakage}}})


def blurred() -> list[Record]:
    """``unet`` has an LPIPS of .3 between .6 and .1; by ``ridge`` it is known that .4 needs no look at the target."""
    unet = made.appearance("a", "unet", {"lpips": 0.6, "ssim": 0.2})
    ridge = made.appearance("a", "ridge", {"lpips": 0.2})
    better = replace(ridge.metrics["lpips"], floor=made.estimate(0.4), leakage=made.estimate(0.1))
    return [
        spent(unet, lpips=(0.2, 0.5, 0.6), ssim=(0.1, 0.2, 0.2)),
        ridge.model_copy(update={"metrics": {"lpips": better}}),
        made.utility("a", "one", 0.9),
    ]


def named() -> list[Record]:
    """Of two recognizers the first names most by rank 10, of which no curve is kept; undefended it names fewer."""

    def asked(recognizer: str, ceiling: float, first: float, tenth: float) -> Record:
        parts = {"floor": made.estimate(0.0), "ceiling": made.estimate(ceiling)}
        metrics = {
            name: made.value(share * ceiling, metric=name, leakage=made.estimate(share), **parts)
            for name, share in (("rank_1", first), ("rank_10", tenth))
        }
        return made.identity("a", "linkage", recognizer, first).model_copy(update={"metrics": metrics})

    one, two = asked("one", 0.8, 0.5, 0.9), asked("two", 1.0, 0.6, 0.6)
    return [spent(one, rank_1=(0.25, 1.0, 0.5)), spent(two, rank_1=(0.6, 0.6, 0.6)), made.utility("a", "one", 0.9)]


def test_leakage_by_budget_is_between_the_ends_of_the_table() -> None:
    """Its last number is the leakage of the row; the floor is .4, so that an LPIPS of .5 or .35 leaks 0 or 1/6."""
    (section,) = made.board_of(blurred()).sections
    ((row, curve),) = section.budgets["appearance"]
    assert (row.privacies["appearance"].set_by, curve.measure) == ("unet, lpips", "lpips")
    assert curve.ends == pytest.approx((0, 1 / 6, 1 / 3))
    assert curve.ends[-1] == 1 - (row.privacies["appearance"].estimate.value or 0)
    unet = next(cell for cell in row.cells if cell.attack == "unet")
    assert unet.budget is not None and unet.budget.leakage["ssim"] == pytest.approx((0.1, 0.2, 0.2)), "its own ends"


def test_leakage_by_budget_is_of_the_recognizer_that_set_the_privacy() -> None:
    """Where the measure that set it has no curve, another is named. A share that was cut off is what it is at least."""
    (section,) = made.board_of(named()).sections
    ((row, curve),) = section.budgets["identity"]
    assert row.privacies["identity"].set_by == "linkage, rank_10, one" and curve.measure == "rank_1"
    assert curve.ends == pytest.approx((0.2, 0.8, 0.4))
    cell = next(cell for cell in row.cells if cell.recognizer == "one" and cell.attack)
    assert dict(cell.leakage)["rank_1"].value == curve.ends[-1]


def test_a_measure_by_which_an_attack_is_broken_has_no_curve() -> None:
    records = [made.appearance("a", "unet", {"lpips": None, "ssim": 0.2}, reason=BROKEN), made.utility("a", "one", 0.9)]
    records[0] = spent(records[0], lpips=(0.1, 0.9, 0.9), ssim=(0.1, 0.2, 0.2))
    (section,) = made.board_of(records).sections
    ((_, curve),) = section.budgets["appearance"]
    assert (curve.measure, curve.ends) == ("ssim", (0.1, 0.2, 0.2))


def test_pages_name_the_measure_of_leakage_by_budget(tmp_path: Path) -> None:
    pages.publish(made.write(tmp_path / "r", [*blurred(), *named()[:2]]), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.md").read_text()
    assert "| unet, lpips | LPIPS | steps | 25: 0.00, 50: 0.17, 100: 0.33 | +0.167 | 0.33 |" in page
    assert r"| linkage, rank\_10, one | rank 1 | steps | 25: 0.20, 50: 0.80, 100: 0.40 | -0.400 | 0.72 |" in page
    assert "The leakage of the row stands beside it" in page
    html = (tmp_path / "out/quick/leaderboard.html").read_text()
    assert "a rises by LPIPS from 0.17 to 0.33" in html and "A line ends at the leakage of its row, but" in html
    assert "LPIPS" in (tmp_path / "out/quick/budget.svg").read_text()


@pytest.mark.parametrize(
    "wrong",
    [{"sizes": [10, 5], "leakage": {}}, {"sizes": [5, 10], "leakage": {"ssim": [0.1]}},
     {"sizes": [5, 10], "leakage": {"ssim": [0.1, 1.2]}}, {"sizes": [5], "leakage": {}}],
)  # fmt: skip
def test_an_impossible_curve_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BudgetCurve.model_validate({"unit": "steps", **wrong})


def test_parts_of_a_budget_are_worth_a_cycle() -> None:
    assert budgets(4) == () and budgets(40) == (20,) and budgets(150) == (37, 75) and budgets(600) == (150, 300)
