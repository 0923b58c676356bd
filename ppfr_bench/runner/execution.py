"""Execution: what is missing of a plan is run by an engine, and each record is kept as it comes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ppfr_bench import registry
from ppfr_bench.assets import cache_dir, make_cache_folder
from ppfr_bench.console import err
from ppfr_bench.device import device_class
from ppfr_bench.engines.base import Engine, Limits, Resources, Result, Task
from ppfr_bench.errors import UserError
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner import scoring
from ppfr_bench.runner.estimates import Estimate, Pace, Times
from ppfr_bench.runner.graph import needed
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.scoring import CellJob, job_of, unmeasured
from ppfr_bench.runner.supersede import Moves, make_room
from ppfr_bench.runner.worker import Work, record_of, stage_store
from ppfr_bench.stages.spec import Stage
from ppfr_bench.stages.store import Output, StageStore

Rerun = Literal["failed", "all"] | None
LOCAL = "dask"  # The engine where none is named.


@dataclass(frozen=True)
class Where:
    """Where a plan is run.

    Attributes:
        engine: by name; ``resources``: what it is given.
        stages: folder or URL of the stages' outputs; empty for the cache.
    """

    engine: str = LOCAL
    resources: Resources = field(default_factory=Resources)
    stages: str = ""

    @classmethod
    def of(cls, plan: Plan, workers: int | None = None, scheduler: str = "", stages: str = "") -> Where:
        """``scheduler`` is the name of an engine or the address of a cluster; the rest is the plan's.

        It falls back to the environment variable ``PPFR_BENCH_SCHEDULER``, and ``stages`` to ``PPFR_BENCH_STAGES``.
        """
        scheduler = scheduler or os.environ.get("PPFR_BENCH_SCHEDULER", "")
        named = scheduler in registry.names("engine")
        setting = plan.setting
        resources = Resources(
            workers, "" if named else scheduler, setting.protocol.threads, device_class(setting.device)
        )
        # What a file could have changed is not taken for the work of others.
        usual = str(cache_dir() / "stages-of-trusted-files") if setting.here else ""
        stages = stages or os.environ.get("PPFR_BENCH_STAGES", "") or usual
        return cls(scheduler if named else LOCAL, resources, stages)


@dataclass
class Outcome:
    """What a run did: cells by status, how many had a record already, and what it set aside or brought back."""

    cached: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    moves: Moves = field(default_factory=Moves)

    @property
    def failed(self) -> int:
        """Cells that failed in this run."""
        return self.counts["failed"]


@dataclass(frozen=True)
class Unfinished:
    """Cells of a plan that have no number to show, now or from an earlier run."""

    without_record: int
    failed: int

    def __bool__(self) -> bool:
        return self.without_record + self.failed > 0

    def told(self, failed_now: int) -> list[str]:
        """What to say of them, and what to type next; ``failed_now`` of them have been told of."""
        before = self.failed - failed_now
        lines = (
            [f"{self.without_record} cells have no record: run the same command again"] if self.without_record else []
        )
        return lines + (
            [f"{before} cells failed in an earlier run: try them again with --rerun failed"] if before else []
        )


def unfinished(plan: Plan, store: ResultStore) -> Unfinished:
    """Look at the records themselves, whatever the engine has said of its tasks."""
    statuses = store.statuses(plan.suite)
    found = Counter(statuses.get(cell.key) for cell in plan.cells)
    return Unfinished(found[None], found["failed"])


def missing(plan: Plan, store: ResultStore, rerun: Rerun = None) -> list[Cell]:
    """Cells without a record, in its place or set aside; skipped ones are tried again, failed ones on request."""
    statuses = store.statuses(plan.suite)
    again = {None: (None, "skipped"), "failed": (None, "skipped", "failed"),
             "all": (None, "ok", "skipped", "failed")}[rerun]  # fmt: skip
    return [cell for cell in plan.cells if statuses.get(cell.key) in again]


def to_compute(cells: Iterable[Cell], stages: StageStore) -> Iterator[tuple[Cell, list[Stage]]]:
    """Each cell, with the stages that it needs, that are not in the store and that no earlier cell needs.

    They come in an order in which they can be computed. What is needed only for a stage that is there already is not
    computed again.
    """
    seen: set[str] = set()

    def add(stage: Stage) -> Iterator[Stage]:
        if stage.key in seen:
            return
        seen.add(stage.key)
        if stages.find(stage.kind, stage.key) is None:
            for earlier in (*stage.gates, *stage.upstream.values()):
                yield from add(earlier)
            yield stage

    for cell in cells:
        yield cell, [one for stage in (*cell.inputs.values(), *_checks(cell)) for one in add(stage)]


def execute(
    plan: Plan, store: ResultStore, *, where: Where | None = None, rerun: Rerun = None,
    report: Callable[[Cell, Record], None] = lambda cell, record: None,
    start: Callable[[Pace], None] = lambda pace: None,
    tell: Callable[[str], None] = lambda text: err.print(text, highlight=False, markup=False, soft_wrap=True),
) -> Outcome:  # fmt: skip
    """Run what is missing. Records are kept one by one: a kill loses at most the stages at hand.

    A stage that fails, or outlasts its time, fails the cells that need it; the rest goes on. A record that another
    takes the place of is set aside: ``tell`` is given how many and why, once. ``start`` is given what says how long
    the run will take.

    Raises:
        UserError: the engine cannot be had, or a folder cannot be written.
    """
    where = where or Where()
    pending = missing(plan, store, rerun)
    outcome = Outcome(cached=len(plan.cells) - len(pending))
    settled = False

    def settle() -> None:
        nonlocal settled
        if not settled:  # The board is this plan's from the first record on.
            make_room(plan, store, outcome.moves)
            settled = True

    def keep(cells: Sequence[Cell], record: Record, strip: bytes | None) -> None:
        store.write(record, strip)
        settle()
        for cell in cells:
            outcome.counts[record.status] += 1
            report(cell, record)

    try:
        if outcome.cached:
            settle()
        if pending:
            make_cache_folder("stages")  # A cache that cannot be written is one message here.
            _run(plan, pending, where, keep, start)
    finally:
        store.compact(plan.suite)
        if outcome.moves:
            tell(outcome.moves.message(store.aside(plan.suite)))
    return outcome


def compute(plan: Plan, wanted: Sequence[Stage], where: Where | None = None) -> list[Output]:
    """The outputs of stages, which are computed where the store does not have them.

    Raises:
        UserError: one fails, the engine cannot be had, or a folder cannot be written.
    """
    where = where or Where()
    make_cache_folder("stages")
    stages = stage_store(where.stages)

    def absent(some: Iterable[Stage]) -> list[Stage]:
        return [stage for stage in some if stages.find(stage.kind, stage.key) is None]

    missing_stages = absent(needed(absent(wanted)))
    keys = {stage.key for stage in missing_stages}
    tasks = [
        Task(stage.job, tuple(one.key for one in (*stage.gates, *stage.upstream.values()) if one.key in keys))
        for stage in missing_stages
    ]
    failed: list[str] = []

    def done(task: Task, result: Result) -> None:
        failed.extend([result.failure.reason] if result.failure is not None else [])

    if tasks:
        work, engine = Work(plan.setting, where.stages, str(cache_dir())), registry.load("engine", where.engine)()
        engine.run(work.pack(), tasks, where.resources, _limits(plan), done)
    found = [stages.find(stage.kind, stage.key) for stage in wanted]
    if failed or None in found:
        raise UserError(failed[0] if failed else "what was computed is gone from the store", "Run it again.")
    return [output for output in found if output is not None]


def _limits(plan: Plan) -> Limits:
    """Of one task."""
    protocol = plan.setting.protocol
    return Limits(protocol.timeout, None if protocol.memory is None else protocol.memory * 1024)


def _run(
    plan: Plan, pending: list[Cell], where: Where, keep: Callable[[Sequence[Cell], Record, bytes | None], None],
    start: Callable[[Pace], None],
) -> None:  # fmt: skip
    work = Work(plan.setting, where.stages, str(cache_dir()))
    stages, times = stage_store(where.stages), Times()
    by_key: dict[str, list[Cell]] = {}
    for cell in pending:  # Under two labels the same may be measured, which is done once.
        by_key.setdefault(cell.key, []).append(cell)
    tasks, computed = _tasks(plan, [same[0] for same in by_key.values()], stages)
    engine: Engine = registry.load("engine", where.engine)()
    pace = Pace(computed, times.expected(computed.values()))
    start(pace)

    def done(task: Task, result: Result) -> None:
        pace.note(task.key, result.seconds)
        if result.seconds is not None and task.key in computed:
            times.note(computed[task.key], result.seconds)
        if not isinstance(task.job, CellJob):
            return
        cells = by_key[task.key]
        if result.failure is None:
            keep(cells, record_of(result), result.strip)
            return
        here = scoring.environment(plan.setting.protocol.threads, plan.setting.device)
        failure = result.failure
        marked = scoring.marks(plan.setting)
        keep(cells, unmeasured(task.job.header, here, failure.status, failure.reason, marked), None)

    try:
        engine.run(work.pack(), tasks, where.resources, _limits(plan), done)
    finally:
        times.save()


def _tasks(plan: Plan, pending: list[Cell], stages: StageStore) -> tuple[list[Task], dict[str, Stage]]:
    """The stages of each cell, and then the cell, so that records come one after the other; the stages by key."""
    tasks: list[Task] = []
    computed: dict[str, Stage] = {}

    def needs(before: Iterable[Stage]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stage.key for stage in before if stage.key in computed))

    for cell, new in to_compute(pending, stages):
        for stage in new:
            computed[stage.key] = stage
            tasks.append(Task(stage.job, needs((*stage.gates, *stage.upstream.values()))))
        tasks.append(Task(job_of(plan, cell), needs((*cell.inputs.values(), *_checks(cell)))))
    return tasks, computed


def _checks(cell: Cell) -> list[Stage]:
    """The check of the cell's defense, whose notes become flags of an attack."""
    if cell.attack is None:
        return []
    stages = (stage for one in cell.inputs.values() for stage in one.before())
    return [s for s in stages if s.kind == "check" and s.spec["defense"] == cell.defense.spec][:1]


def estimated(plan: Plan, pending: list[Cell], where: Where) -> dict[str, object]:
    """For ``--dry-run``: the size of the graph, how much of it is to be computed, and what that will take."""
    from ppfr_bench.engines.dask import pays_off

    workers = where.resources.workers or pays_off(plan.setting.protocol.threads)
    try:
        compute = [stage for _, new in to_compute(pending, stage_store(where.stages)) for stage in new]
        found = Times().estimate(compute)
    except UserError:  # There is no cache to look in, and so nothing that was computed.
        compute = needed(stage for cell in pending for stage in cell.inputs.values())
        found = Estimate(0, len(compute), len(compute))
    return {
        "stages": len(plan.stages), "to_compute": len(compute), "workers": workers,
        "seconds": None if 0 < found.stages == found.unknown else round(found.seconds / workers, 1),
        "unknown": found.unknown, "words": found.words(workers),
    }  # fmt: skip


def describe(plan: Plan, store: ResultStore) -> list[tuple[Cell, str]]:
    """Each cell, and the status of its record or that it is to run."""
    statuses = store.statuses(plan.suite)
    return [(cell, statuses.get(cell.key) or "to run") for cell in plan.cells]
