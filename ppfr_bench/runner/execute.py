"""Execute: run the cells that are missing, in worker processes, and write each record as it comes."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as CellTimeout
from dataclasses import dataclass, field
from typing import Literal

import torch
from pebble import ProcessExpired, ProcessPool

from ppfr_bench import registry
from ppfr_bench.assets import make_cache_folder
from ppfr_bench.console import err
from ppfr_bench.parallel import deaf_children, end_with
from ppfr_bench.recognizers import recognizer_component
from ppfr_bench.results import Record, ResultStore
from ppfr_bench.runner.cells import run_cell, unmeasured
from ppfr_bench.runner.lab import Lab
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.supersede import Moves, settle, supersede

log = logging.getLogger(__name__)
Rerun = Literal["failed", "all"] | None
_lab: Lab | None = None  # a worker's own


@dataclass
class Outcome:
    """What a run did: cells by status, how many had a record already, and what it set aside or brought back."""

    cached: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    moves: Moves = field(default_factory=Moves)

    @property
    def failed(self) -> int:
        return self.counts["failed"]


def missing(plan: Plan, store: ResultStore, rerun: Rerun = None) -> list[Cell]:
    """Cells without a record, in its place or set aside; skipped ones are tried again, failed ones on request."""
    cells = []
    for cell in plan.cells:
        record = store.find(plan.folder(cell), cell.key)
        again = record is None or rerun == "all" or record.status == "skipped"
        if again or (record is not None and record.status == "failed" and rerun == "failed"):
            cells.append(cell)
    return cells


def _tell(message: str) -> None:
    err.print(message, highlight=False, markup=False, soft_wrap=True)


def execute(
    plan: Plan, store: ResultStore, *, workers: int = 1, rerun: Rerun = None,
    report: Callable[[Cell, Record], None] = lambda cell, record: None, tell: Callable[[str], None] = _tell,
) -> Outcome:  # fmt: skip
    """Run what is missing. Records are written one by one: a kill loses at most the cells at hand.

    A worker that dies (out of memory, say) or a cell that outlasts its time is recorded as failed; the rest goes on.
    A record that another takes the place of is set aside: ``tell`` is given how many and why, once.
    """
    pending = missing(plan, store, rerun)
    outcome = Outcome(cached=len(plan.cells) - len(pending))
    try:
        if outcome.cached:
            settle(plan, store, outcome.moves)
        if pending:
            _run(plan, store, pending, workers, outcome, report)
    finally:
        if outcome.moves:
            tell(outcome.moves.message(store.aside(plan.suite)))
    return outcome


def _run(
    plan: Plan, store: ResultStore, pending: list[Cell], workers: int, outcome: Outcome,
    report: Callable[[Cell, Record], None],
) -> None:  # fmt: skip
    limit = plan.protocol.timeout
    make_cache_folder("stages")  # here, where a cache that cannot be written is one message
    for library in ("OMP", "OPENBLAS", "MKL"):  # read by numpy as it loads: workers inherit them
        os.environ.setdefault(f"{library}_NUM_THREADS", str(plan.protocol.threads))
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context, initializer=_start_worker, initargs=(plan,)) as pool:
        try:
            with deaf_children():
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
                store.write(record, samples)
                if outcome.cached or outcome.counts.total():
                    supersede(plan, store, cell, outcome.moves)
                else:  # the first record of this plan: from here on the board is this plan's
                    settle(plan, store, outcome.moves)
                outcome.counts[record.status] += 1
                report(cell, record)
        except BaseException:
            pool.stop()  # type: ignore[no-untyped-call]
            raise


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
    _lab = Lab(plan, plan.open_dataset())


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
