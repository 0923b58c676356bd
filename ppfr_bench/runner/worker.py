"""What a worker process does: it computes stages and scores cells of a plan, one at a time."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cloudpickle

from ppfr_bench.assets import cache_dir
from ppfr_bench.engines.base import Failure, Result
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.records import draws
from ppfr_bench.records.record import Record
from ppfr_bench.runner import scoring
from ppfr_bench.runner.scoring import CellJob
from ppfr_bench.stages import function_of
from ppfr_bench.stages.context import Context, Setting
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, StageStore


@dataclass(frozen=True)
class Work:
    """What all tasks of a run share; it is sent with each of them, and unpacked once a process.

    Attributes:
        stages: where outputs of stages lie, for all workers; empty for the folder in the cache of each.
        cache: the cache folder of the one who runs; used where the workers see it.
    """

    setting: Setting
    stages: str = ""
    cache: str = ""

    def pack(self) -> bytes:
        """For ``perform``, here or in another process that this run starts."""
        packed: bytes = cloudpickle.dumps(self)
        return packed

    @cached_property
    def store(self) -> StageStore:
        """Where the outputs of stages lie, as seen from this process. It remembers what it has seen at a URL."""
        return stage_store(self.stages)


def stage_store(place: str) -> StageStore:
    """The store at a folder or a URL; in the cache where none is named."""
    if "://" in place:
        return StageStore(cache_dir() / "stages" / "copies", place)
    return StageStore(Path(place) if place else cache_dir() / "stages")


_contexts: dict[str, tuple[Work, Context]] = {}  # A process works for one run at a time.


def perform(packed: bytes, job: Job | CellJob) -> Result:
    """Compute a stage, or score a cell, whose upstream stages are in the store.

    Whatever goes wrong is the task's failure: it is recorded, and other tasks go on.
    """
    try:
        work, context = _context(packed)
        return _score(job, work, context) if isinstance(job, CellJob) else _compute(job, work.store, context)
    except Unavailable as error:
        return Result(job.key, Failure("skipped", str(error)))
    except (Exception, SystemExit) as error:  # A plug-in's code may raise anything; that is the cell's result.
        if os.environ.get("PPFR_BENCH_TRACEBACKS"):
            traceback.print_exc()
        return Result(job.key, Failure("failed", f"{type(error).__name__}: {error}"))


def _context(packed: bytes) -> tuple[Work, Context]:
    name = hashlib.sha256(packed).hexdigest()
    if name not in _contexts:
        work: Work = cloudpickle.loads(packed)  # The run that this process belongs to has packed it.
        if work.cache and work.cache != str(cache_dir()) and Path(work.cache).is_dir():
            os.environ["PPFR_BENCH_CACHE"] = work.cache
        work.setting.prepare()
        _contexts.clear()
        _contexts[name] = work, Context(work.setting)
    return _contexts[name]


def _compute(job: Job, store: StageStore, context: Context) -> Result:
    if (found := store.find(job.kind, job.key)) is None:
        inputs = {name: _output(store, *place) for name, place in job.upstream.items()}
        function: Callable[..., None] = scoring.compared if job.kind == "compared" else function_of(job.kind)
        found = store.compute(job.kind, job.key, job.spec, lambda writer: function(job, inputs, context, writer))
        return Result(job.key, seconds=found.seconds)
    return Result(job.key)


def _score(job: CellJob, work: Work, context: Context) -> Result:
    store = work.store
    inputs = {name: _output(store, *place) for name, place in job.inputs.items()}
    paid = {place: found for place in job.paid if (found := store.find(*place, whole=False)) is not None}
    shared = [found for place, found in paid.items() if place in job.shared]
    check = _output(store, *job.check) if job.check else None
    record, strip = scoring.score(job, inputs, list(paid.values()), shared, check, context)
    for name, measured in record.metrics.items():  # An error here is the cell's, and not the run's.
        draws.check({(name, part): one.draws for part, one in measured.parts()}, record.key)
    return Result(job.cell.key, record=record.model_dump_json(), strip=strip)


def _output(store: StageStore, kind: str, key: str) -> Output:
    """Raises:
    UserError: the store has lost it since it was computed.
    """
    found = store.find(kind, key)
    if found is None:
        what = f"the stage '{kind}' {key[:12]} is gone from {store.root}, or damaged"
        raise UserError(what, "Type the same again with  --rerun failed")
    return found


def record_of(result: Result) -> Record:
    """The record of a cell that was scored."""
    return Record.model_validate_json(result.record)
