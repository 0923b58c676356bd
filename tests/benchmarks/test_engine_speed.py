"""What the engine and the store add to a stage, and what a run costs that has nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from ppfr_bench import stages
from ppfr_bench.engines.base import Limits, Resources, Result, Task
from ppfr_bench.engines.dask import Dask
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.runner.worker import Work, stage_store
from ppfr_bench.stages.spec import Stage
from ppfr_bench.stages.store import Writer

pytestmark = pytest.mark.slow
STAGES = 2000
EACH = 0.010  # seconds that a stage of nothing may cost, to publish and to schedule
FINISHED = 3.0  # seconds of a run of 1,200 cells that all have a record


def nothing(job: object, inputs: object, context: object, writer: Writer) -> None:
    """Computes nothing."""


def test_stages_of_nothing_cost_little(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is published here, and then scheduled, sent to a worker's child and found there."""
    monkeypatch.setattr(stages, "_PLACES", stages._PLACES | {"nothing": f"{__name__}:nothing"})
    store = stage_store(str(tmp_path / "stages"))
    made_of = [Stage("nothing", {"number": number}) for number in range(STAGES)]
    started = time.perf_counter()
    for stage in made_of:
        store.compute(stage.kind, stage.key, stage.spec, lambda writer: None)
    published = time.perf_counter() - started
    setting = resolve("smoke", Asked(defenses=("blackout",), attacks=("visual",))).plan.setting
    packed = Work(setting, str(tmp_path / "stages")).pack()
    first = Task(made_of[0].job, ())
    tasks = [first, *(Task(stage.job, (first.key,)) for stage in made_of[1:])]
    done: list[Result] = []
    times: list[float] = []

    def keep(task: Task, result: Result) -> None:
        done.append(result)
        times.append(time.perf_counter())

    benchmark.pedantic(Dask().run, args=(packed, tasks, Resources(1), Limits(60), keep), rounds=1)
    assert len(done) == STAGES and not [result.failure for result in done if result.failure]
    each = (published + times[-1] - times[0]) / STAGES  # from the first on: the worker has loaded torch by then
    benchmark.extra_info["seconds_each"] = round(each, 5)
    assert each < EACH


def test_a_finished_run_of_1200_cells_takes_no_time(benchmark: Any, tmp_path: Path) -> None:
    """``standard`` has 1,118 cells; its records are made, as what is in them does not matter here."""
    plan = resolve("standard").plan
    store = ResultStore(tmp_path)
    for cell in plan.cells:
        shape = made.record(cell.defense.label, cell.kind, attack="unet" if cell.attack else None)
        update = {"key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "defense": cell.defense,
                  "attack": cell.attack, "recognizer": cell.recognizer,
                  "dataset_revision": plan.setting.dataset_revision}  # fmt: skip
        store.write(shape.model_copy(update=update))
    store.write_plan(plan.published())
    store.compact(plan.suite)
    command = [sys.executable, "-m", "ppfr_bench.cli", "run", "standard", "--results", str(tmp_path)]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, pydantic, pandas, scipy.ndimage"], check=True)
    imports = time.perf_counter() - started
    taken = benchmark.pedantic(_seconds, args=(command,), rounds=3)
    benchmark.extra_info["imports"] = round(imports, 2)
    assert taken - imports < FINISHED


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ, capture_output=True)
    return time.perf_counter() - started
