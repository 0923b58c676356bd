"""The nightly run: what changed, and a rotating sample of what did not, against the last night's records.

A cell that changed is measured into the records and compared with the record it takes the place of. A cell that did
not is measured anew with an empty cache, beside the records, and compared with its own: if it moved, the environment
did.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from ppfr_bench import registry
from ppfr_bench.assets import make_cache_folder
from ppfr_bench.cards import Config
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.comparison import Finding, compare, failures
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.storage import storage
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute, missing
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request
from ppfr_bench.runner.scoring import environment
from ppfr_bench.suites import Suite
from ppfr_bench.text import parse_json, printable, read_text

SLOWER = 1.5  # A benchmark is named from so many times last night's ratio on.
BARE = "test_a_bare_loop"  # The times of all benchmarks are divided by this one's.
_KEYS = TypeAdapter(dict[str, str | None])
_SHARED = ("assets", "datasets", "downloads")  # These parts of the cache are made once, and checked by digest.


@dataclass(frozen=True)
class Night:
    """What one night came to; a line of the history. ``commit`` is that of the code that ran it."""

    night: str
    suite: str
    commit: str | None
    changed: int
    sampled: int
    findings: tuple[Finding, ...]
    rows: dict[str, dict[str, float | None]]  # Defense -> score, retention, appearance, identity.
    ratios: dict[str, float]  # Benchmark -> time over that of the bare loop.


def run_night(
    request: Request, store: ResultStore, history: Path, night: date, share: float, benchmarks: Path | None = None,
    where: Where | None = None,
) -> Night:  # fmt: skip
    """Measure, compare and append to the history.

    Args:
        share: of the unchanged cells that are measured anew; after 1 / share nights each has been.
        benchmarks: what ``pytest --benchmark-json`` wrote tonight.

    Raises:
        UserError: a history or a benchmark file that cannot be read, data that is trained on and measured on, or a
            cluster that is to measure a sample anew.
    """
    make_cache_folder()  # Every worker would fail on a folder that cannot be made.
    plan, past = request.plan, read_history(history)
    here = environment(plan.setting.protocol.threads, plan.setting.device)  # Before somebody commits what comes next.
    before = _before(plan, store, history)
    changed = [cell for cell in plan.cells if cell.key in before]
    sample = rotating([cell for cell in plan.cells if cell.key not in before], night, share)
    empty = with_no_stages(where) if share > 0 else None
    found: list[Finding] = []
    request.audit()
    write_atomic(begun_file(history, plan.suite), json.dumps(before, indent=1).encode())
    execute(plan, store, where=where)
    for cell in changed:
        old = before[cell.key]
        now, then = store.find(plan.suite, cell.key), store.find(plan.suite, old) if old else None
        if now is not None:
            found += compare("regression", then, now) if then is not None else failures(now)
    if sample:
        with empty_cache() as folder:
            anew = ResultStore(folder / "results")
            execute(replace(plan, cells=tuple(sample)), anew, where=empty)
            for cell in sample:
                then, now = store.find(plan.suite, cell.key), anew.find(plan.suite, cell.key)
                if then is not None and now is not None:
                    found += compare("drift", then, now)
    ratios = read_ratios(benchmarks) if benchmarks is not None else {}
    earlier = [one["ratios"] for one in past if one["night"] != night.isoformat() and one.get("ratios")]
    last: dict[str, float] = earlier[-1] if earlier else {}
    found += slower(last, ratios)
    records, published = list(store.records(plan.suite)), store.plan(plan.suite) or plan.published()
    made = build(records, published, store.claims(plan.suite))
    rows = numbers_of_rows(row for row in made if row.dataset == plan.dataset.label)
    result = Night(night.isoformat(), plan.suite, here.commit, len(changed), len(sample), tuple(found), rows, ratios)
    append_history(history, result)
    return result


def numbers_of_rows(rows: Iterable[Row]) -> dict[str, dict[str, float | None]]:
    """What the history keeps of each row, by its label."""
    return {
        row.defense: {
            "score": row.score.value, "retention": row.retention.value,
            **{name: found.estimate.value for name, found in row.privacies.items()},
        }
        for row in rows
    }  # fmt: skip


def accepted(suite: Suite, store: ResultStore) -> tuple[str, ...]:
    """Defenses that were taken as submissions and that the suite does not list: a night measures them, too."""
    listed = {entry.name for entry in suite.defense}
    taken = {claim.defense for claim in store.claims(suite.name).values()}
    return tuple(sorted((taken - listed) & set(registry.names("defense"))))


def rotating(cells: Sequence[Cell], night: date, share: float) -> list[Cell]:
    """Some of the cells: another part each night, all of them in 1 / share nights; none where the share is 0."""
    if share <= 0:
        return []
    parts = max(1, round(1 / share))
    return [cell for cell in cells if int(digest(cell.key)[:8], 16) % parts == night.toordinal() % parts]


def slower(before: dict[str, float], now: dict[str, float]) -> list[Finding]:
    """The benchmarks whose ratio to the bare loop has grown by half."""
    return [
        Finding("slower", name, "time over that of a bare loop", before[name], None, ratio)
        for name, ratio in sorted(now.items())
        if name in before and ratio > SLOWER * before[name]
    ]


def read_ratios(path: Path) -> dict[str, float]:
    """The best time of each benchmark over that of the bare loop in the same file.

    Raises:
        UserError: not what ``pytest --benchmark-json`` writes, or the bare loop is not in it.
    """
    hint = f"pytest tests/benchmarks -m slow --benchmark-json={printable(path)}"
    written = parse_json(read_text(path, hint), printable(path), hint)
    try:
        found = {one["name"]: float(one["stats"]["min"]) for one in written["benchmarks"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{printable(path)} holds no benchmarks: {error}", hint) from error
    if not found.get(BARE, 0) > 0:
        raise UserError(f"{path} lacks {BARE}, by which the other times are divided", "Run all of tests/benchmarks.")
    return {name: float(f"{seconds / found[BARE]:.4g}") for name, seconds in sorted(found.items()) if name != BARE}


class _Moved(Config, extra="ignore"):
    """What the page of nights reads of a finding."""

    kind: str
    what: str
    metric: str
    before: float | None
    now: float | None
    reason: str


class _Line(Config, extra="ignore"):
    """What the page of nights reads of a line of the history."""

    night: str
    suite: str
    commit: str | None
    changed: int = Field(ge=0)
    sampled: int = Field(ge=0)
    findings: tuple[_Moved, ...]
    rows: dict[str, dict[str, float | None] | None]


def read_history(path: Path) -> list[dict[str, Any]]:
    """The nights so far, oldest first; none where there is no file yet.

    Raises:
        UserError: a line that is no night.
    """
    if not path.exists():
        return []
    nights, hint = [], "Restore it from git."
    lines = read_text(path, hint).removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], 1):
        where = f"{printable(path)}, line {number}"
        night = parse_json(line, where, hint)
        try:
            _Line.model_validate(night)
        except ValidationError as error:
            raise UserError(f"{where} is not a line of the history: {line:.60}", hint) from error
        nights.append(night)
    return nights


def append_history(path: Path, result: Night) -> None:
    """Add tonight; a second run of one night takes the place of the first. Nights of two suites may end at once."""
    with storage(path.parent).alone(".lock"):
        past, new = read_history(path), asdict(result)
        kept = [one for one in past if (one["night"], one["suite"]) != (result.night, result.suite)]
        lines = [json.dumps(one, sort_keys=True, ensure_ascii=False, allow_nan=False) for one in (*kept, new)]
        write_atomic(path, ("\n".join(lines) + "\n").encode())


def summary(result: Night) -> str:
    """Markdown, fit for an issue."""
    counts = f"{result.changed} cells changed, {result.sampled} unchanged ones were measured anew"
    head = f"# Night of {result.night}, suite {result.suite}\n\n{counts}"
    if not result.findings:
        return f"{head}. Nothing moved.\n"
    lines = "\n".join(f"- {finding.line}" for finding in result.findings)
    return f"{head}. {len(result.findings)} moved:\n\n{lines}\n"


def trend(nights: Sequence[dict[str, Any]]) -> bytes:
    """The page of all nights, UTF-8 HTML: a line of scores a defense, and what moved when."""
    suites = []
    for suite in sorted({str(one["suite"]) for one in nights}):
        of = [one for one in nights if one["suite"] == suite]
        defenses = sorted({name for one in of for name in one["rows"]})
        lines = [(name, [(one["rows"].get(name) or {}).get("score") for one in of]) for name in defenses]
        suites.append((suite, of, lines))
    return render("nightly.html", suites=suites)


@contextmanager
def empty_cache(share: tuple[str, ...] | None = None) -> Iterator[Path]:
    """A cache with nothing computed in it, for as long as it is needed.

    Args:
        share: parts of the cache that are made once, and checked by digest; all of them, without.
    """
    known = {shared: make_cache_folder(shared).absolute() for shared in (_SHARED if share is None else share)}
    with TemporaryDirectory(prefix="ppfr-bench-empty-") as name:
        folder = Path(name)
        for shared, place in known.items():
            (folder / shared).symlink_to(place, target_is_directory=True)
        before = os.environ.get("PPFR_BENCH_CACHE")
        os.environ["PPFR_BENCH_CACHE"] = name  # The workers read it as they start.
        try:
            yield folder
        finally:
            if before is None:
                del os.environ["PPFR_BENCH_CACHE"]
            else:
                os.environ["PPFR_BENCH_CACHE"] = before


def with_no_stages(where: Where | None) -> Where | None:
    """The same for an empty cache: a place of its own for stages would not be empty.

    Raises:
        UserError: it is a cluster, whose workers have caches of their own.
    """
    if where is None:
        return None
    if where.resources.scheduler:
        raise UserError(
            f"what is measured anew needs an empty cache, which workers of {where.resources.scheduler} do not have",
            "Leave --scheduler and PPFR_BENCH_SCHEDULER out; or let a night measure only what changed:  --share 0",
        )
    return replace(where, stages="")


def begun_file(history: Path, suite: str) -> Path:
    """Where a night notes what it compares before it measures, so that a kill loses none of it: see ``_before``."""
    return history.with_name(f".{suite}-begun.json")


def _before(plan: Plan, store: ResultStore, history: Path) -> dict[str, str | None]:
    """Cells that changed since the last night that came to its end: key -> key of the record before, None if it is new.

    Raises:
        UserError: what a killed night has noted cannot be read.
    """
    path = begun_file(history, plan.suite)
    try:
        begun = _KEYS.validate_json(path.read_bytes()) if path.exists() else {}
    except (OSError, ValidationError) as error:
        raise UserError(
            f"cannot read {printable(path)}, in which a killed night has noted what it compares",
            f"Delete it; what that night has measured is not compared then:  rm '{printable(path)}'",
        ) from error
    found = {cell.key: _superseded(plan, store, cell) for cell in missing(plan, store)}
    return {key: begun.get(old or "", old) for key, old in found.items()} | begun


def _superseded(plan: Plan, store: ResultStore, cell: Cell) -> str | None:
    """The key of the record that the cell takes the place of."""
    published = store.plan(plan.suite)
    table = published.tables.get(plan.dataset.label) if published else None
    place = (cell.defense.label, cell.slot, plan.seed)
    keys = [one.key for one in table.cells if one.place == place and one.key != cell.key] if table else []
    return keys[0] if keys else None
