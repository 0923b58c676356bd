"""A weak recognizer stands on a board, is marked there, and sets nothing of what is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import pytest

from ppfr_bench.leaderboard import pages, trace
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Record
from ppfr_bench.runner.plan import make_plan
from ppfr_bench.suites import load_suite

WEAK = "mobileface"


def planned(records: list[Record], *weak: str) -> PlanFile:
    """The plan of records, some of whose recognizers are weak."""
    plan = made.plan_of(records)
    (table,) = plan.tables.values()
    known = {
        label: one.model_copy(update={"weak": label in weak}) for label, one in table.recognizers.items()
    }  # fmt: skip
    return plan.model_copy(update={"tables": {"synthetic": table.model_copy(update={"recognizers": known})}})


def measured() -> list[Record]:
    """Kept 0.8 by an able recognizer and 0.2 by another."""
    found = [*made.simple("a", 0.8, 0.5), *made.simple("b", 0.7, 0.5)]
    return [*found, *(made.utility(label, WEAK, 0.2, draws=made.around(0.2, 0.01)) for label in ("a", "b"))]


def section_of(records: list[Record], *weak: str) -> Section:
    return Board("mine", tuple(records), planned(records, *weak)).sections[0]


def test_it_is_no_part_of_what_is_kept_and_is_marked() -> None:
    kept = {row.defense: row.retention.value for row in section_of(measured()).rows}
    assert kept == pytest.approx({"a": 0.5, "b": 0.45})
    section = section_of(measured(), WEAK)
    assert {row.defense: row.retention.value for row in section.rows} == pytest.approx({"a": 0.8, "b": 0.7})
    assert section.recognizers == [("dlib_resnet", ""), (WEAK, "weak")]
    for row in section.rows:
        assert row.complete and row.rank is not None and WEAK in [use.recognizer for use in row.utilities]
        assert [one.title for one in trace.sources(row, "retention", {})] == ["utility / dlib_resnet"]


def test_where_all_are_weak_nothing_is_known_to_be_kept() -> None:
    for row in section_of(measured(), WEAK, "dlib_resnet").rows:
        assert row.retention.value is None and row.retention.reason == "only weak recognizers were measured"
        assert row.rank is None and row.retention.reason in row.unranked


def test_a_surrogate_is_better_than_a_weak_one() -> None:
    records = [
        *made.simple("a", 0.8, 0.5), made.utility("a", "faceplugin", 0.6, surrogate=True, draws=made.around(0.6, 0.01))
    ]  # fmt: skip
    (row,) = section_of(records, "dlib_resnet").rows
    assert row.retention.value == 0.6 and "surrogate" in row.retention.reason


def test_what_it_names_is_named() -> None:
    """A face that a poor recognizer finds is found: its attacks count."""
    records = [*measured(), made.identity("a", "linkage", "dlib_resnet", 0.3), made.identity("a", "linkage", WEAK, 0.6)]
    row = next(row for row in section_of(records, WEAK).rows if row.defense == "a")
    assert row.privacies["identity"].recognizer == WEAK


def test_pages_and_the_plan_say_that_it_is_weak(tmp_path: Path) -> None:
    records = measured()
    plan = planned(records, WEAK)
    pages.publish(made.write(tmp_path / "results", records, plan=plan), "quick", tmp_path / "out")
    for name in ("leaderboard", "defenses/a"):
        assert "<small>weak</small>" in (tmp_path / "out" / "quick" / f"{name}.html").read_text()
    written = (tmp_path / "results" / "quick" / "plan.json").read_text()
    assert written.count('"weak": true') == 1 and '"weak": false' not in written


def test_a_plan_takes_it_from_the_card() -> None:
    suite = load_suite("smoke").model_copy(update={"recognizers": ("faceplugin", WEAK)})
    data: Any = SimpleNamespace(version=1, revision="r", card=SimpleNamespace(real_people=False))
    (table,) = make_plan(suite, data).published().tables.values()
    assert {label for label, one in table.recognizers.items() if one.weak} == {WEAK}
