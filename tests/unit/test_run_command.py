"""What ``ppfr-bench run`` does after its plan was run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import pytest
from made_plans import plan_of

from ppfr_bench.cli.run import run
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner import execution, request
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.scoring import header


def record_of(plan: Plan, cell: Cell) -> Record:
    found = made.appearance("a", "unet", {"lpips": 0.5})
    return Record(**header(plan, cell), environment=made.ENVIRONMENT, status="ok", metrics=found.metrics,
                  training=found.training)  # fmt: skip


def test_a_run_that_was_killed_before_its_index_makes_it_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    whole = plan_of("smoke")
    plan = replace(whole, cells=tuple(cell for cell in whole.cells if cell.kind == "attack")[:2])
    asked: Any = SimpleNamespace(plan=plan, tell=lambda: None)
    monkeypatch.setattr(request, "resolve", lambda suite, asked_for: asked)
    monkeypatch.setattr(execution, "_run", lambda *arguments: pytest.fail("nothing is missing"))
    results = tmp_path / "results"
    store = ResultStore(results)
    for cell in plan.cells:
        store.write(record_of(plan, cell))
    run("smoke", results=str(results), as_json=True)
    assert json.loads(capsys.readouterr().out)["already_recorded"] == 2
    assert (results / "index.parquet").is_file()
