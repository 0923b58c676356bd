"""Submissions: a defense's file and its records in one archive, checked by who packs it and again by who takes it.

A submission is a claim: it is taken only if its records are exactly those of a shipped suite and its numbers can have
been measured, and it is published as a claim until it has been measured again. Taking one imports and runs none of it:
what came from outside is read by a person first.
"""

from __future__ import annotations

import hashlib
import inspect
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ppfr_bench import registry
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.maintenance.archives import ASK, RESULT, SOURCE, files_of
from ppfr_bench.maintenance.comparison import compare
from ppfr_bench.maintenance.nightly import empty_cache, with_no_stages
from ppfr_bench.maintenance.strict import strict_json
from ppfr_bench.maintenance.validation import check, check_draws, check_types, plan_of_cells
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.plan_file import PlanFile, PlannedTable
from ppfr_bench.records.record import TRUSTED, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request
from ppfr_bench.suites import suite_names
from ppfr_bench.text import printable

UNFILLED = ("", "yours, with its year", "Paper, venue, year")  # A card that nobody filled in has one of these.
_EPOCH = (1980, 1, 1, 0, 0, 0)  # Files in an archive have this date, so the same content gives the same bytes.
_COUNTS = ("shots", "replicates", "threads", "adaptor")  # These parts of a protocol determine numbers.


def pack(name: str, plan: Plan, store: ResultStore, target: Path) -> int:
    """Write the archive of a defense and of all its cells of a plan; the number of records.

    Args:
        plan: of one suite, with this defense alone, under the suite's own seed and settings.

    Raises:
        UserError: the file is no plug-in of ``defenses/``, its card is not filled in, it breaks the contract, or a cell
            is not recorded, failed, was skipped, or was measured with changed code.
    """
    source = Path(inspect.getsourcefile(registry.load("defense", name)) or "")
    if source.parent.name != "defenses" or source.stem != name:
        raise UserError(f"defense '{name}' comes from {source}", f"Move it to defenses/{name}.py and run it again.")
    _check_card(name)
    if findings := check_plugin("defense", name):
        raise UserError(f"defense '{name}' breaks the contract: {findings[0].message}", f"ppfr-bench check {name}")
    statuses = store.statuses(plan.suite)
    records = [_whole(plan, store, statuses, cell, name) for cell in plan.cells if cell.defense.name == name]
    files = {f"defenses/{name}.py": source.read_bytes()}
    with TemporaryDirectory(prefix="ppfr-bench-submit-") as folder:
        made = ResultStore(Path(folder) / "results")
        for record in records:
            made.write(record, store.strip(record))
        made.compact(plan.suite)
        made.write_plan(plan_of_cells(plan, {record.key for record in records}))
        for path in sorted(Path(folder).rglob("*")):
            place = path.relative_to(folder).as_posix()
            if path.is_file() and RESULT.fullmatch(place):
                files[place] = path.read_bytes()
    temporary = target.with_name(f".{target.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path_, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(path_, _EPOCH), content, zipfile.ZIP_DEFLATED)
    try:
        read(temporary)  # The one who takes it asks the same.
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return len(records)


def _check_card(name: str) -> None:
    card = registry.load("defense", name).card
    for field in ("title", "family", "reference", "licence"):
        if getattr(card, field) in UNFILLED:
            raise UserError(f"the card of '{name}' leaves its {field} open", f"Fill it in, in defenses/{name}.py.")


def _whole(plan: Plan, store: ResultStore, statuses: Mapping[str, str], cell: Cell, name: str) -> Record:
    """The record of a cell, if it may be published."""
    title = " / ".join(part.label for part in (cell.attack, cell.recognizer) if part) or cell.kind
    again = f"ppfr-bench run {plan.suite} --defense {name}"
    record = store.find(plan.suite, cell.key) if cell.key in statuses else None
    if record is None:
        raise UserError(
            f"{title}: not recorded under the settings and seed of {plan.suite}, version {cell.defense.version}",
            f"{again} --results {store.root}",
        )
    if record.status != "ok":
        raise UserError(f"{title} {record.status}: {record.reason}", f"Fix that, then:  {again} --rerun failed")
    if TRUSTED in record.flags:
        raise UserError(
            f"{title} was measured with code of a file in the harness's own process (flag '{TRUSTED}')",
            f"Without --trust and without files of attacks:  {again} --rerun all",
        )
    if record.environment.dirty is not False or not record.environment.commit:
        raise UserError(
            f"{title} was measured with changes that are not committed",
            f"Commit, then:  {again} --rerun all",
        )
    return record


@dataclass(frozen=True)
class Submission:
    """What an archive holds, checked: its source, its records with their sample faces, and the plans of their suites.

    The plans are those that this checkout makes, and not what the archive says of them.
    """

    name: str
    source: bytes
    records: tuple[Record, ...]
    strips: dict[str, bytes]
    plans: tuple[PlanFile, ...]


def read(path: Path, root: Path | None = None) -> Submission:
    """An archive, if there is nothing in it but one defense and its good records; none of it is imported or run.

    Args:
        root: a checkout that also knows commits; its board tells what attacks regain where nothing is protected.

    Raises:
        UserError: what is wrong with it, by file.
    """
    files, shown = files_of(path), printable(path)
    sources = [name for name in files if SOURCE.fullmatch(name)]
    if len(sources) != 1:
        raise UserError(f"{shown}: expected one defenses/NAME.py, got {len(sources)}", ASK)
    name = Path(sources[0]).stem
    for place in files:
        if place.endswith(".jpg") and f"{place.removesuffix('.jpg')}.jsonl" not in files:
            raise UserError(f"{shown}: {place} is a picture of no record", ASK)
    by_suite, strips = _records(files, name, shown)
    if not any(by_suite.values()):
        raise UserError(f"{shown} holds no record", ASK)
    board, plans = ResultStore(root / "results") if root else None, []
    for suite, mine in by_suite.items():
        try:
            if (stated := files.get(f"results/{suite}/plan.json")) is None:
                raise UserError(f"it has no results/{suite}/plan.json")
            plans.append(check(suite, mine, strict_json(stated), board, root))
        except UserError as error:
            raise UserError(f"{shown}: {error.message}", f"{ASK}\n{error.hint}".rstrip()) from error
    records = tuple(record for mine in by_suite.values() for record in mine)
    if any(record.real_people for record in records) and any(place.endswith(".jpg") for place in files):
        raise UserError(f"{shown}: expected no pictures with records of real people", ASK)
    return Submission(name, files[sources[0]], records, strips, tuple(plans))


def _records(files: Mapping[str, bytes], name: str, shown: str) -> tuple[dict[str, list[Record]], dict[str, bytes]]:
    """The records of an archive by suite, and their sample faces by key.

    Raises:
        UserError: a file is none of ours, or not of the defense of that name.
    """
    suites = sorted({found[1] for place in files if (found := RESULT.fullmatch(place))})
    if own := [suite for suite in suites if suite not in suite_names()]:
        raise UserError(f"{shown}: '{own[0]}' is not a built-in suite: {', '.join(suite_names())}", ASK)
    records: dict[str, list[Record]] = {}
    strips: dict[str, bytes] = {}
    with TemporaryDirectory(prefix="ppfr-bench-accept-") as folder:
        for place, content in files.items():
            write_atomic(Path(folder) / place, content)
        store = ResultStore(Path(folder) / "results")
        try:
            for place, content in files.items():
                if place.endswith(".jsonl"):
                    check_types(content, place, name)
            for suite in suites:
                records[suite] = list(store.records(suite))
                strips |= {record.key: strip for record in records[suite] if (strip := store.strip(record))}
                check_draws(files.get(f"results/{suite}/draws.parquet"), records[suite])
        except UserError as error:
            raise UserError(f"{shown}: {error.message}".replace(folder, ""), ASK) from error
    return records, strips


def take(path: Path, root: Path) -> Submission:
    """Add what an archive holds to a checkout below ``root``: nothing of it runs, and no other row is touched.

    What is written are the records as they were read and checked, not the bytes that came; they are noted as a claim.

    Raises:
        UserError: as ``read``; or a file or a record of the same name or key holds something else; or its rows would
            not compare with those of the board, or would change them.
    """
    found = read(path, root)
    there = root / f"defenses/{found.name}.py"
    if there.is_file() and there.read_bytes() != found.source:
        raise UserError(f"{there} holds something else", "Nothing was taken. Move that file away first.")
    store = ResultStore(root / "results")
    plans = [_beside(board, plan, path) if (board := store.plan(plan.suite)) else plan for plan in found.plans]
    new = []
    for record in found.records:
        known = store.find(record.suite, record.key)
        if known is not None and known != record:
            raise UserError(
                f"{record.title}: {store.root / record.suite} holds another record of its key {record.key[:12]}",
                "Nothing was taken. Find out which of the two is right:  ppfr-bench score NAME --anew",
            )
        new += [record] if known is None else []
    write_atomic(there, found.source)
    for plan in plans:
        store.write_claims(plan.suite, _claims(found, [one for one in new if one.suite == plan.suite]))
    for record in found.records:
        store.write(record, found.strips.get(record.key))
    for plan in plans:
        store.write_plan(plan)
        store.compact(plan.suite)
    return found


def _claims(found: Submission, records: list[Record]) -> dict[str, Claim]:
    """A claim for each row that gets records, by data set and label."""
    keys: dict[str, list[str]] = {}
    for record in records:
        keys.setdefault(f"{record.dataset.label}/{record.defense.label}", []).append(record.key)
    sha256 = hashlib.sha256(found.source).hexdigest()
    return {
        row: Claim(defense=found.name, source_sha256=sha256, keys=tuple(sorted(mine))) for row, mine in keys.items()
    }


def _beside(board: PlanFile, plan: PlanFile, path: Path) -> PlanFile:
    """A plan as it joins a board: what is said of the whole board stays as it is.

    Raises:
        UserError: its rows would not compare with those of the board, or would change them.
    """
    joined = {}
    for label, table in plan.tables.items():
        joined[label] = table
        if (here := board.tables.get(label)) is not None:
            if wrong := _unlike(here, table):
                raise UserError(f"{printable(path)}: {label}: {wrong}", ASK)
            joined[label] = table.model_copy(update={"dataset": here.dataset, "protocol": here.protocol})
    return plan.model_copy(update={"title": board.title, "tables": joined})


def _unlike(here: PlannedTable, table: PlannedTable) -> str:
    """Why rows would not compare with those of a board, or would change them; empty if neither."""
    for what in ("revision", "seed", "real_people"):
        if getattr(here, what) != getattr(table, what):
            return f"its {what} is {getattr(table, what)}, the board has {getattr(here, what)}"
    for name in _COUNTS:
        if here.protocol.get(name) != table.protocol.get(name):
            return f"its protocol.{name} is {table.protocol.get(name)}, the board has {here.protocol.get(name)}"
    for kind in ("attacks", "recognizers"):
        mine, theirs = getattr(here, kind), getattr(table, kind)
        for name in theirs:
            if name in mine and mine[name] != theirs[name]:
                return f"{name} was run with other settings than on the board"
    for name, version in table.metrics.items():
        if here.metrics.get(name, version) != version:
            return f"version {version} of metric {name}, the board has {here.metrics[name]}"
    return _taken(here, table) or _more_cells(here, table)


def _taken(here: PlannedTable, table: PlannedTable) -> str:
    """Whose row of the board a label is already, or of which settings; empty if it is free or its own."""
    for label, planned in table.defenses.items():
        if label not in here.defenses:
            continue
        then, now = here.defenses[label].component, planned.component
        if then.name != now.name:
            return f"{label} is the row of defense '{then.name}' on the board"
        if then.version == now.version and then.config != now.config:
            return f"{label} is a row of other settings on the board"
    return ""


def _more_cells(here: PlannedTable, table: PlannedTable) -> str:
    """A cell that no row of its track has: each of them would lack it, and lose its rank."""
    for track in sorted({one.track for one in table.defenses.values()}):
        mine, theirs = ({cell.slot for cell in one.cells if cell.cell != "canary"
                         and one.defenses[cell.defense].track == track} for one in (here, table))  # fmt: skip
        if mine and (more := sorted(theirs - mine)):
            return f"{' / '.join(filter(None, more[0]))} is on no row of the board"
    return ""


@dataclass(frozen=True)
class Score:
    """What measuring recorded cells again came to: cells by outcome, and what left its interval."""

    same: int
    within: int
    outside: tuple[str, ...]


def score(request: Request, store: ResultStore, anew: bool = False, where: Where | None = None) -> Score:
    """Measure recorded cells again, beside the records.

    Args:
        request: of the cells alone.
        anew: with an empty cache, instead of from the releases and the reconstructions that the cache holds.

    Raises:
        UserError: data that somebody trains on and is measured on, or a cluster that is to measure anew.
    """
    same, within, outside = 0, 0, []
    where = with_no_stages(where) if anew else where
    request.audit()
    plan = request.plan
    with TemporaryDirectory(prefix="ppfr-bench-score-") as folder, empty_cache() if anew else nullcontext():
        fresh = ResultStore(Path(folder))
        execute(plan, fresh, where=where)
        for cell in plan.cells:
            then, now = store.find(plan.suite, cell.key), fresh.find(plan.suite, cell.key)
            if then is None or now is None:
                continue
            moved = [finding.line for finding in compare("moved", then, now)]
            outside += moved
            same += not moved and then.metrics == now.metrics
            within += not moved and then.metrics != now.metrics
    return Score(same, within, tuple(outside))
