"""Execute: run the cells that are missing, in worker processes, and write each record as it comes."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as CellTimeout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pebble import ProcessExpired, ProcessPool

from ppfr_bench import registry
from ppfr_bench.parallel import end_with
from ppfr_bench.recognizers import recognizer_component
from ppfr_bench.results import Record, ResultStore
from ppfr_bench.runner.cells import run_cell, unmeasured
from ppfr_bench.runner.lab import Lab
from ppfr_bench.runner.plan import Cell, Plan, open_dataset
from ppfr_bench.suites import Entry

log = logging.getLogger(__name__)
Rerun = Literal["failed", "all"] | None
_lab: Lab | None = None  # a worker's own


@dataclass
class Outcome:
    """What a run did: cells by status, and how many had a record already."""

    cached: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return self.counts["failed"]


def missing(plan: Plan, store: ResultStore, rerun: Rerun = None) -> list[Cell]:
    """Cells without a record; skipped ones are tried again, failed ones only on request."""
    cells = []
    for cell in plan.cells:
        record = store.find(plan.folder(cell), cell.key)
        again = record is None or rerun == "all" or record.status == "skipped"
        if again or (record is not None and record.status == "failed" and rerun == "failed"):
            cells.append(cell)
    return cells


def execute(
    plan: Plan, store: ResultStore, *, workers: int = 1, rerun: Rerun = None,
    report: Callable[[Cell, Record], None] = lambda cell, record: None,
) -> Outcome:  # fmt: skip
    """Run what is missing. Records are written one by one: a kill loses at most the cells at hand.

    A worker that dies (out of memory, say) or a cell that outlasts its time is recorded as failed; the rest goes on.
    """
    pending = missing(plan, store, rerun)
    outcome = Outcome(cached=len(plan.cells) - len(pending))
    if not pending:
        return outcome
    limit = plan.protocol.timeout
    for library in ("OMP", "OPENBLAS", "MKL"):  # read by numpy as it loads: workers inherit them
        os.environ.setdefault(f"{library}_NUM_THREADS", str(plan.protocol.threads))
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context, initializer=_start_worker, initargs=(plan,)) as pool:
        try:
            futures = [(cell, pool.schedule(_work, args=(cell,), timeout=limit)) for cell in pending]
            for cell, future in futures:
                samples = None
                try:
                    record, samples = future.result()
                except CellTimeout:
                    record = unmeasured(plan, cell, "failed", f"timeout: more than {limit:g} s")
                except ProcessExpired as error:
                    reason = f"the worker died with exit code {error.exitcode} (out of memory?)"
                    record = unmeasured(plan, cell, "failed", reason)
                path = store.write(record, samples)
                _retire(store, record, path)
                outcome.counts[record.status] += 1
                report(cell, record)
        except BaseException:
            pool.stop()  # type: ignore[no-untyped-call]
            raise
    return outcome


def _retire(store: ResultStore, record: Record, path: Path) -> None:
    """Delete records of the same cell and seed under an older key: a version or a parameter has changed since."""
    for other in path.parent.glob("*.json"):
        if other == path:
            continue
        old = store.read(other)
        same = (old.cell, old.seed, old.recognizer and old.recognizer.label) == (
            record.cell, record.seed, record.recognizer and record.recognizer.label,
        )  # fmt: skip
        if same:
            other.unlink()
            if old.samples:
                (other.parent / Path(old.samples).name).unlink(missing_ok=True)


def _start_worker(plan: Plan) -> None:
    global _lab
    end_with(os.getppid())
    torch.set_num_threads(plan.protocol.threads)
    for path in plan.plugins:
        registry.add_plugin(path)
    for source in plan.brought:
        recognizer_component(source)
    for guest in plan.guests:
        guest.adopt()
    here = plan.luggage.unpack() if plan.luggage else None
    _lab = Lab(plan, here or open_dataset(Entry(name=plan.dataset.name, params=plan.dataset_params)))


def _work(cell: Cell) -> tuple[Record, bytes | None]:
    assert _lab is not None, "the worker was started by _start_worker"
    return run_cell(_lab, cell)


def describe(cells: Iterable[Cell], store: ResultStore, plan: Plan) -> list[tuple[Cell, str, float | None]]:
    """For --dry-run: each cell, whether it has a record (its status) or is to run, and the seconds it once took."""
    rows: list[tuple[Cell, str, float | None]] = []
    for cell in cells:
        record = store.find(plan.folder(cell), cell.key)
        rows.append((cell, record.status if record else "to run", record.cost.seconds if record else None))
    return rows
