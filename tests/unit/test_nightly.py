"""A night: every cell gets its turn, what moves is named, what does not is not, and the history keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import numpy as np
import pytest
from made_plans import plan_of

from ppfr_bench.datasets.faces import subset
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import nightly
from ppfr_bench.maintenance.comparison import Finding, compare
from ppfr_bench.maintenance.nightly import Night
from ppfr_bench.records.record import Component
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell
from ppfr_bench.runner.request import Request
from ppfr_bench.runner.scoring import environment
from ppfr_bench.suites import load_suite
from ppfr_bench.testing import example_faces

DEFENSE = Component(label="a", name="a", version=1)
CELLS = [Cell("attack", DEFENSE, None, None, "image", "reconstruction", key=f"{i:064x}") for i in range(200)]
NIGHT = Night("2026-11-23", "quick", "c0ffee", 3, 5, (), {"a": {"score": 0.5}}, {"test_x": 2.0})


def test_every_unchanged_cell_gets_its_turn_once() -> None:
    start = date(2026, 11, 1)
    nights = [nightly.rotating(CELLS, start + timedelta(days=i), 0.05) for i in range(20)]
    assert sorted(cell.key for found in nights for cell in found) == [cell.key for cell in CELLS]
    assert all(3 <= len(found) <= 20 for found in nights)
    assert nightly.rotating(CELLS, start, 1) == CELLS and nightly.rotating(CELLS, start, 0) == []


def test_a_number_outside_its_interval_is_named_and_one_inside_is_not() -> None:
    then = made.appearance("a", "unet", {"lpips": 0.5}, draws={"lpips": made.around(0.5, 0.01)})
    assert compare("drift", then, then) == []
    near = made.appearance("a", "unet", {"lpips": 0.51}, draws={"lpips": made.around(0.51, 0.01)})
    assert compare("drift", then, near) == []
    far = made.appearance("a", "unet", {"lpips": 0.6}, draws={"lpips": made.around(0.6, 0.01)})
    (finding,) = compare("drift", then, far)
    assert (finding.kind, finding.what, finding.metric) == ("drift", "a / unet", "leakage_lpips")
    assert (finding.before, finding.now) == (0.5, 0.6)
    assert "a / unet" in finding.line and "0.5 [" in finding.line and "0.6 now" in finding.line


def test_a_cell_that_gives_no_number_any_more_has_failed() -> None:
    then = made.appearance("a", "unet", {"lpips": 0.5}, draws={"lpips": made.around(0.5, 0.01)})
    now = made.record("a", "attack", attack="unet", measures="appearance", status="failed", reason="out of memory")
    assert [f.line for f in compare("drift", then, now)] == ["failed: a / unet: out of memory"]
    blank = made.appearance("a", "unet", {"lpips": None}, reason="broken")
    assert [f.kind for f in compare("drift", then, blank)] == ["failed"]


def test_times_are_compared_as_ratios_to_the_bare_loop_of_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    times = {"test_a_bare_loop": 0.5, "test_x": 1.5, "test_y": 0.1}
    path.write_text(json.dumps({"benchmarks": [{"name": n, "stats": {"min": t}} for n, t in times.items()]}))
    assert nightly.read_ratios(path) == {"test_x": 3.0, "test_y": 0.2}
    assert nightly.slower({"test_x": 2.5, "test_y": 0.2}, {"test_x": 3.0, "test_y": 0.2, "test_new": 9.0}) == []
    (finding,) = nightly.slower({"test_x": 1.9}, {"test_x": 3.0})
    assert finding.kind == "slower" and finding.what == "test_x"
    path.write_text(json.dumps({"benchmarks": [{"name": "test_x", "stats": {"min": 1}}]}))
    with pytest.raises(UserError, match="lacks test_a_bare_loop"):
        nightly.read_ratios(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no benchmarks"):
        nightly.read_ratios(path)


def test_the_history_keeps_one_line_a_night(tmp_path: Path) -> None:
    path = tmp_path / "nights.jsonl"
    assert nightly.read_history(path) == []
    for night in (NIGHT, replace(NIGHT, night="2026-11-24"), replace(NIGHT, changed=7), replace(NIGHT, suite="smoke")):
        nightly.append_history(path, nightly.read_history(path), night)
    found = nightly.read_history(path)
    assert [(one["night"], one["suite"], one["changed"]) for one in found] == [
        ("2026-11-24", "quick", 3), ("2026-11-23", "quick", 7), ("2026-11-23", "smoke", 3),
    ]  # fmt: skip
    path.write_text(path.read_text() + "not json\n")
    with pytest.raises(UserError, match="line 4"):
        nightly.read_history(path)


def test_the_commit_of_a_night_is_that_of_the_code_that_ran_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records may be older, which say the commits that they were measured with."""
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    faces = example_faces()
    mine, measured = (subset(faces, np.flatnonzero(half)) for half in (faces.identities < 2, faces.identities >= 2))
    data: Any = SimpleNamespace(attacker=mine, defender=mine, evaluation=measured, revision="r")
    request = Request(load_suite("smoke"), replace(plan_of("smoke"), cells=()), data)
    store = ResultStore(made.write(tmp_path / "results", made.simple("a", 0.5, 0.5, suite="smoke")))
    history = tmp_path / "nights.jsonl"
    night = nightly.run_night(request, store, history, date(2026, 11, 23), share=0)
    assert night.commit == environment(1, "cpu").commit != made.ENVIRONMENT.commit
    assert (night.changed, night.sampled, night.findings, list(night.rows)) == (0, 0, (), ["a"])
    assert [one["commit"] for one in nightly.read_history(history)] == [night.commit]


def test_the_pages_say_what_moved_and_run_nothing_from_records(tmp_path: Path) -> None:
    moved = Finding("drift", "<script>alert(1)</script>", "leakage_lpips", 0.5, (0.4, 0.6), 0.7)
    path = tmp_path / "nights.jsonl"
    for i, score in enumerate((0.4, None, 0.6)):
        night = replace(NIGHT, night=f"2026-11-2{i}", findings=(moved,) if i == 2 else (), rows={"a": {"score": score}})
        nightly.append_history(path, nightly.read_history(path), night)
    page = nightly.trend(nightly.read_history(path)).decode()
    assert (
        page.count("<script") == 1
        and "alert(1)" not in page.split("<script>")[1]
        and "&lt;script&gt;" in page
        and "0.500 → 0.700" in page
    )
    assert page.count("M") >= 2 and 'class="trend"' in page
    assert nightly.trend(nightly.read_history(path)).decode() == page
    assert "drift: " in nightly.summary(replace(NIGHT, findings=(moved,)))
    assert "Nothing moved" in nightly.summary(NIGHT)
    assert "No night has been recorded" in nightly.trend([]).decode()
