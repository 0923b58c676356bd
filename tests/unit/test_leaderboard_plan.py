"""The plan of a board: a record of none of its cells is left out, and a cell without a record is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import made_records as made
import pytest
from made_records import build, by_label

from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import table
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.records.plan_file import PlanFile, PlannedTable
from ppfr_bench.records.record import Record


def changed(plan: PlanFile, dataset: str = "synthetic", **update: Any) -> PlanFile:
    """A plan of which one table is otherwise."""
    other: PlannedTable = plan.tables[dataset].model_copy(update=update)
    return plan.model_copy(update={"tables": plan.tables | {dataset: other}})


def story() -> list[Record]:
    return made.simple("a", 0.5, 0.5) + made.simple("b", 0.4, 0.5)


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"revision": "another"}, {"attack_config": {"steps": 1}}, {"dataset": "elsewhere"}],
    ids=["seed", "revision", "settings", "data set"],
)
def test_a_record_of_no_cell_of_the_plan_is_on_no_board_and_changes_nothing(change: dict[str, Any]) -> None:
    """Nothing votes: many foreign records change as little as one."""
    foreign = [
        found
        for label in ("a", "b", "c", "d")
        for found in (
            made.utility(label, "one", 0.9, **{key: x for key, x in change.items() if key != "attack_config"}),
            made.appearance(label, "unet", {"lpips": 0.1}, **change),
        )
    ]
    plan = made.plan_of(story())
    assert table.build(story() + foreign, plan) == table.build(story(), plan)
    board = Board("quick", (*foreign, *story()), plan)
    assert board.foreign == foreign and f"{len(foreign)} records are of no cell of the plan" in board.note
    assert board.count == len(story()) and len(board.sections) == 1
    assert Board("quick", tuple(story()), plan).note == ""


def test_a_planned_cell_without_a_record_is_missing() -> None:
    planned = [*story(), *made.simple("c", 0.9, 0.1), made.appearance("a", "ridge", {"lpips": 0.4})]
    rows = by_label(build(story(), of=planned))
    assert [(cell.title, cell.state) for cell in rows["c"].gaps] == [
        ("utility / dlib_resnet", "missing"), ("ridge", "missing"), ("unet", "missing")
    ]  # fmt: skip
    assert rows["c"].title == "c" and rows["c"].promise == "" and rows["c"].card == {}
    # A slot that is planned for one row is expected of all.
    assert [(cell.title, cell.state) for cell in rows["b"].gaps] == [("ridge", "missing")]


def test_a_record_that_is_older_than_the_plan_does_not_compare() -> None:
    """What a later run has planned anew for some rows is not what an earlier one measured on the others."""
    records = [*story(), *made.simple("c", 0.9, 0.1)]
    plan = made.plan_of(records)
    attack = plan.tables["synthetic"].attacks["unet"]
    newer = attack.component.model_copy(update={"version": attack.component.version + 1})
    found = [
        record.model_copy(update={"attack": newer}) if record.attack and record.defense.label != "c" else record
        for record in records
    ]
    later = changed(plan, attacks={"unet": attack.model_copy(update={"component": newer})})
    rows = by_label(table.build(found, later))
    assert rows["c"].rank is None and [gap.state for gap in rows["c"].gaps] == ["incomparable"]
    assert "attack unet was run with other settings, or in another version, than the plan's" in rows["c"].gaps[0].reason
    assert {rows["a"].rank, rows["b"].rank} == {1, 2}


def test_another_version_of_a_metric_does_not_compare() -> None:
    records = story()
    metric = records[1].metrics["lpips"]
    plan = changed(made.plan_of(records), metrics={metric.metric: metric.version + 1})
    newer = replace(metric, version=metric.version + 1)
    found = [records[0], records[1].model_copy(update={"metrics": {"lpips": newer}}), *records[2:]]
    rows = by_label(table.build(found, plan))
    assert rows["b"].rank is None and "other versions of metrics" in rows["b"].gaps[0].reason
    assert rows["a"].rank == 1


def test_a_defense_of_two_settings_is_no_row() -> None:
    """A suite file was edited, and only one attack run again: the numbers are not of one defense."""
    records = [*made.simple("a", 0.5, 0.5), made.appearance("a", "ridge", {"lpips": 0.4})]
    other = records[0].defense.model_copy(update={"config": {"block": 8}})
    (row,) = build([*records[:2], records[2].model_copy(update={"defense": other})], of=records)
    assert [(gap.title, gap.state) for gap in row.gaps] == [("ridge", "incomparable")]
    assert "defense a was run with other settings" in row.gaps[0].reason


def test_two_records_of_one_cell_do_not_compare_and_one_twice_is_one() -> None:
    base = story()
    assert build([*base, base[1]], of=base) == build(base)
    other = base[1].model_copy(update={"flags": ("attack_not_converged",)})
    rows = by_label(build([*base, other], of=base))
    assert rows["a"].rank is None and "2 records of one cell" in rows["a"].gaps[0].reason


def test_a_record_counts_under_the_labels_of_the_plan() -> None:
    """A suite file was edited, and an attack has another label: its numbers are the same, under the same key."""
    records = story()
    former = [
        record.model_copy(update={"attack": record.attack.model_copy(update={"label": "earlier"})})
        if record.attack else record
        for record in records
    ]  # fmt: skip
    assert build(former, of=records) == build(records)


def test_a_track_that_is_not_here_is_an_error_that_says_what_to_type() -> None:
    plan = made.plan_of(story())
    defenses = plan.tables["synthetic"].defenses
    plan = changed(plan, defenses={x: one.model_copy(update={"track": "sketch"}) for x, one in defenses.items()})
    with pytest.raises(UserError, match="track 'sketch'") as error:
        table.build(story(), plan)
    assert "--plugin" in error.value.hint


@pytest.mark.parametrize("part", ["attacks", "defenses"])
def test_a_plan_that_does_not_describe_its_cells_is_an_error(part: str) -> None:
    with pytest.raises(UserError, match="does not describe"):
        table.build(story(), changed(made.plan_of(story()), **{part: {}}))


def test_tables_are_kept_apart_and_the_order_of_records_is_nothing() -> None:
    records = made.simple("a", 0.5, 0.5) + made.simple("b", 0.6, 0.5)
    records += made.simple("a", 0.1, 0.5, dataset="lfw", real_people=True)
    records += made.simple("c", 0.9, 0.5, track="representation")
    rows = build(records)
    assert [(row.dataset, row.track, row.defense, row.rank) for row in rows] == [
        ("lfw", "image", "a", 1), ("synthetic", "image", "b", 1), ("synthetic", "image", "a", 2),
        ("synthetic", "representation", "c", 1),
    ]  # fmt: skip
    assert build(records[::-1], of=records) == rows
