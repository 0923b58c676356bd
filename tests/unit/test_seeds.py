"""Spread between seeds: other seeds widen the published numbers, move none of them, and are counted honestly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import made_records as made
import numpy as np
import pytest
from made_records import build

from ppfr_bench.leaderboard import seeds
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.html import HtmlPage
from ppfr_bench.leaderboard.seeds import Spread
from ppfr_bench.records.record import Record


def split(records: list[Record], seed: int = 0) -> tuple[list[Record], Spread]:
    return seeds.split(records, seed)


def measured(defense: str, leaked: float, seed: int = 0) -> list[Record]:
    return [
        made.utility(defense, "dlib_resnet", 0.8, draws=made.around(0.8, 0.01), seed=seed),
        made.appearance(
            defense, "unet", {"lpips": leaked}, draws={"lpips": made.around(leaked, 0.01)}, seed=seed
        ),
    ]  # fmt: skip


def unet(records: list[Record], defense: str) -> Any:
    found = next(r for r in records if r.attack is not None and r.defense.label == defense)
    return found.metrics["lpips"].leakage


def test_one_seed_changes_nothing() -> None:
    records = measured("a", 0.3) + measured("b", 0.5)
    main, spread = split(records)
    assert main == records and spread.deviations == {} and spread.defenses == ()


def test_other_seeds_widen_every_row_and_move_no_number() -> None:
    records = measured("a", 0.3) + measured("b", 0.5) + measured("a", 0.2, seed=1) + measured("a", 0.4, seed=2)
    main, spread = split(records)
    assert {record.seed for record in main} == {0} and len(main) == 4
    assert spread.seeds == (0, 1, 2) and spread.defenses == ("a",)
    (deviation,) = (found for (_, _, part), found in spread.deviations.items() if part == "leakage")
    assert deviation == pytest.approx(np.std([0.3, 0.2, 0.4], ddof=1))
    for defense, value in (("a", 0.3), ("b", 0.5)):
        before, after = unet(records, defense), unet(main, defense)
        assert after.value == before.value == value
        assert after.interval[0] < before.interval[0] < value < before.interval[1] < after.interval[1]
        assert np.std(after.draws) == pytest.approx(np.hypot(0.01, deviation), rel=0.25)
    rows = {row.defense: row for row in build(records)}
    narrow = {row.defense: row for row in build(measured("a", 0.3) + measured("b", 0.5))}
    for defense in ("a", "b"):
        wide, slim = (found[defense].privacies["appearance"].estimate.interval for found in (rows, narrow))
        assert rows[defense].complete and wide is not None and slim is not None
        assert wide[1] - wide[0] > 2 * (slim[1] - slim[0])


def test_other_seeds_never_narrow_what_few_people_leave_open() -> None:
    """Where all people gave the same, draws tell nothing of others, and a little noise of the seeds no more."""

    def of_seed(seed: int, leaked: float) -> list[Record]:
        made_of = measured("a", leaked, seed)
        lpips = made_of[1].metrics["lpips"]
        assert lpips.leakage is not None
        agreed = replace(lpips.leakage, interval=(0.95, leaked), draws=(leaked,) * 200)
        metrics = {"lpips": replace(lpips, leakage=agreed)}
        return [made_of[0], made_of[1].model_copy(update={"metrics": metrics})]

    records = of_seed(0, 1.0) + of_seed(1, 0.998)
    before, after = unet(records, "a"), unet(split(records)[0], "a")
    assert np.ptp(before.draws) == 0 < np.ptp(after.draws)
    assert after.interval == before.interval == (0.95, 1.0)
    (one,), (both,) = (
        [row.privacies["appearance"].estimate.interval for row in build(found)] for found in (records[:2], records)
    )
    assert one is not None and both is not None and both[0] == one[0] == 0
    assert both[1] >= one[1] > 0.02


def test_what_every_seed_measures_the_same_is_not_widened_by_rows_that_are_drawn() -> None:
    kept = {"a": (0.8, 0.8, 0.8), "b": (0.7, 0.6, 0.8), "c": (0.5,)}
    records = [
        made.utility(name, "dlib_resnet", value, draws=made.around(value, 0.01), seed=seed)
        for name, values in kept.items() for seed, value in enumerate(values)
    ]  # fmt: skip

    def retention(found: list[Record], name: str) -> Any:
        return next(record for record in found if record.defense.label == name).metrics["retention"].value

    chance = [made.utility("d", "dlib_resnet", 0.6, draws=made.around(0.6, 0.01), seed=seed) for seed in (0, 1)]
    other_auc = replace(chance[1].metrics["auc"], value=made.estimate(0.81))
    chance[1] = chance[1].model_copy(update={"metrics": chance[1].metrics | {"auc": other_auc}})
    records += chance
    main, spread = split(records)
    assert retention(main, "a") == retention(records, "a"), "it draws nothing"
    for name in "bcd":
        before, after = retention(records, name), retention(main, name)
        assert after.interval[0] < before.interval[0] - 0.05, "as wide as the row that does"
    (deviation,) = (found for (_, name, _), found in spread.deviations.items() if name == "retention")
    assert deviation == pytest.approx(0.1 / 2**0.5), "pooled over b and d"


def test_numbers_of_other_seeds_outside_the_interval_are_counted() -> None:
    """Three defenses, one of which moves far more than the others: the pooled spread does not cover it."""
    records = [record for name in "abcdefgh" for record in measured(name, 0.3)]
    records += [record for name in "abcdefg" for record in measured(name, 0.3, seed=1)] + measured("h", 0.9, seed=1)
    _, spread = split(records)
    leakages = 8
    retentions = 8
    assert spread.agreement == (leakages + retentions - 1, leakages + retentions)


def test_the_published_seed_is_the_plan_s_and_not_that_of_most_records() -> None:
    records = measured("a", 0.3, seed=1) + measured("b", 0.5, seed=1) + measured("a", 0.2)
    main, spread = split(records)
    assert [(record.defense.label, record.seed) for record in main] == [("b", 1), ("b", 1), ("a", 0), ("a", 0)]
    assert spread.seeds == (0, 1)
    rows = {row.defense: row for row in build(records)}
    assert rows["a"].complete and rows["a"].privacies["appearance"].estimate.value == pytest.approx(0.8)
    assert {cell.state for cell in rows["b"].cells} == {"incomparable"}


def test_a_seed_that_is_alone_with_its_cell_is_no_repetition() -> None:
    records = measured("a", 0.3) + measured("b", 0.5) + measured("c", 0.4, seed=1)
    main, spread = split(records)
    assert len(main) == len(records) and spread.deviations == {}
    states = {cell.state for row in build(records) if row.defense == "c" for cell in row.cells}
    assert states == {"incomparable"}


def test_a_row_s_own_seeds_widen_it_where_they_differ_more() -> None:
    records = [record for name in "abcdefgh" for record in measured(name, 0.3)]
    records += [record for name in "abcdefg" for record in measured(name, 0.31, seed=1)] + measured("h", 0.5, seed=1)
    main, spread = split(records)
    widths = {name: np.subtract(*unet(main, name).interval[::-1]) for name in "ah"}
    own = {name: found for (name, (_, _, part)), found in spread.own.items() if part == "leakage"}
    assert own["h"] == pytest.approx(np.std([0.3, 0.5], ddof=1)) and own["a"] < 0.01
    assert widths["h"] > 1.5 * widths["a"], "the other rows have the pooled deviation, which is larger than theirs"


def test_a_table_shows_every_seed_and_marks_the_worst() -> None:
    records = measured("a", 0.3) + measured("b", 0.5) + measured("a", 0.2, seed=1) + measured("a", 0.4, seed=2)
    board = Board("quick", tuple(records), made.plan_of(records))
    ((row, lines),) = board.sections[0].by_seed
    found = {line.seed: line.numbers["appearance privacy"] for line in lines}
    assert row.defense == "a" and list(found) == [0, 1, 2]
    assert {seed: round(one.value or 0.0, 2) for seed, (one, _) in found.items()} == {0: 0.7, 1: 0.8, 2: 0.6}
    assert [worst for _, worst in found.values()] == [False, False, True]
    assert found[2][0].reason == "set by U-Net inversion, LPIPS"
    assert len({line.row.privacies["appearance"].estimate.key for line in lines}) == 3, "each seed has its own record"
    page = HtmlPage().publish(board)["leaderboard.html"].decode()
    assert "Seed by seed" in page
    alone = measured("a", 0.3) + measured("b", 0.5)
    assert Board("quick", tuple(alone), made.plan_of(alone)).sections[0].by_seed == []


def test_a_seed_of_which_a_cell_is_missing_says_at_most() -> None:
    records = [*measured("a", 0.3), made.identity("a", "linkage", "dlib_resnet", 0.1), *measured("a", 0.4, seed=1)]
    ((_, lines),) = Board("quick", tuple(records), made.plan_of(records)).sections[0].by_seed
    assert "no identity attack was measured" in lines[1].numbers["identity privacy"][0].reason
    assert lines[1].numbers["appearance privacy"][0].value == pytest.approx(0.6)
