"""A night: every cell gets its turn, what moves is named, what does not is not, and the history keeps it."""

from __future__ import annotations

import json
import multiprocessing
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
from ppfr_bench.engines.base import Resources
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import nightly
from ppfr_bench.maintenance.comparison import Finding, compare
from ppfr_bench.maintenance.nightly import Night
from ppfr_bench.records.record import Component, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, missing
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request
from ppfr_bench.runner.scoring import environment, header
from ppfr_bench.runner.supersede import Moves, make_room
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
        nightly.append_history(path, night)
    found = nightly.read_history(path)
    assert [(one["night"], one["suite"], one["changed"]) for one in found] == [
        ("2026-11-24", "quick", 3), ("2026-11-23", "quick", 7), ("2026-11-23", "smoke", 3),
    ]  # fmt: skip
    path.write_text(path.read_text() + "not json\n")
    with pytest.raises(UserError, match="line 4"):
        nightly.read_history(path)


def _append(path: Path, suite: str) -> None:
    for day in range(1, 21):
        nightly.append_history(path, replace(NIGHT, night=f"2026-11-{day:02}", suite=suite))


def test_nights_of_several_suites_that_end_at_once_keep_their_lines(tmp_path: Path) -> None:
    path, context = tmp_path / "nights.jsonl", multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(path, suite)) for suite in ("quick", "smoke", "standard")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(nightly.read_history(path)) == 60


def request_of(plan: Plan) -> Request:
    """Of a plan, on the faces of the package."""
    faces = example_faces()
    mine, measured = (subset(faces, np.flatnonzero(half)) for half in (faces.identities < 2, faces.identities >= 2))
    data: Any = SimpleNamespace(attacker=mine, defender=mine, evaluation=measured, revision="r")
    return Request(load_suite("smoke"), plan, data)


def record_of(plan: Plan, cell: Cell, leaked: float) -> Record:
    """Of an attack's cell."""
    found = made.appearance("a", "unet", {"lpips": leaked}, draws={"lpips": made.around(leaked, 0.01)})
    return Record(**header(plan, cell), environment=made.ENVIRONMENT, status="ok", metrics=found.metrics,
                  training=found.training)  # fmt: skip


def test_a_killed_night_that_is_run_again_finds_what_it_would_have_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is killed: before the first record, between two, after all, or when its line is written."""
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    last, tonight = plan_of("smoke"), plan_of("smoke", "protocol.replicates=20")
    cells = [
        (then, now) for then, now in zip(last.cells, tonight.cells, strict=True)
        if now.attack and now.attack.label == "ridge" and now.defense.name != "blackout"
    ][:2]  # fmt: skip
    last, tonight = (replace(p, cells=tuple(c)) for p, c in zip((last, tonight), zip(*cells, strict=True), strict=True))
    results, killed_after = tmp_path / "results", [0]

    def execute(plan: Plan, store: ResultStore, where: Any = None) -> None:
        for number, cell in enumerate(missing(plan, store)):
            if number == killed_after[0]:
                raise KeyboardInterrupt
            store.write(record_of(plan, cell, 0.9))
            make_room(plan, store, Moves())

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nightly, "execute", execute)
    found = []
    for after in (9, 0, 1, 2):
        store, history = ResultStore(results / str(after)), tmp_path / str(after) / "nights.jsonl"
        for cell in last.cells:
            store.write(record_of(last, cell, 0.5))
        store.write_plan(last.published())
        nightly.append_history(history, replace(NIGHT, night="2026-11-22"))
        if after < 9:
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                killed_after[0] = after
                patched.setattr(nightly, "append_history", killed)
                nightly.run_night(request_of(tonight), store, history, date(2026, 11, 23), share=0)
        killed_after[0] = 9
        nightly.run_night(request_of(tonight), store, history, date(2026, 11, 23), share=0)
        found.append(history.read_bytes())
    (line,) = [one for one in nightly.read_history(history) if one["night"] == "2026-11-23"]
    assert line["changed"] == 2 and [one["kind"] for one in line["findings"]] == ["regression", "regression"]
    assert found == [found[0]] * 4


def test_what_is_measured_anew_is_read_from_no_store_of_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    plan = replace(plan_of("smoke"), cells=plan_of("smoke").cells[:1])
    store, given = ResultStore(tmp_path / "results"), []
    store.write(record_of(plan, plan.cells[0], 0.5))
    store.write_plan(plan.published())

    def execute(plan: Plan, store: ResultStore, where: Where) -> None:
        given.append(where.stages)

    monkeypatch.setattr(nightly, "execute", execute)
    night = request_of(plan), store, tmp_path / "nights.jsonl", date(2026, 11, 24)
    nightly.run_night(*night, share=1, where=Where(stages="/shared/stages"))
    assert given == ["/shared/stages", ""]
    with pytest.raises(UserError, match="needs an empty cache, which workers of tcp://x:8786 do not have"):
        nightly.run_night(*night, share=1, where=Where(resources=Resources(scheduler="tcp://x:8786")))
    nightly.run_night(*night, share=0, where=Where(resources=Resources(scheduler="tcp://x:8786")))


def test_a_second_run_of_one_night_is_compared_with_the_times_of_the_night_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    times = {nightly.BARE: 0.5, "test_x": 2.0}
    (tmp_path / "b.json").write_text(
        json.dumps({"benchmarks": [{"name": n, "stats": {"min": t}} for n, t in times.items()]})
    )
    store = ResultStore(made.write(tmp_path / "results", made.simple("a", 0.5, 0.5, suite="smoke")))
    history = tmp_path / "nights.jsonl"
    nightly.append_history(history, NIGHT)
    for _ in range(2):
        night = nightly.run_night(
            request_of(replace(plan_of("smoke"), cells=())), store, history, date(2026, 11, 24), 0, tmp_path / "b.json"
        )
        assert [one.kind for one in night.findings] == ["slower"]


def test_the_commit_of_a_night_is_that_of_the_code_that_ran_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records may be older, which say the commits that they were measured with."""
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    request = request_of(replace(plan_of("smoke"), cells=()))
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
        nightly.append_history(path, night)
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
