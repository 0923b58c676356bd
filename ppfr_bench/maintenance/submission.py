"""Submissions: a defense's file and its records in one archive, checked by who packs it and again by who takes it.

Taking one writes files and runs none of them: what came from outside is read by a person before it is imported.
"""

from __future__ import annotations

import inspect
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ppfr_bench import registry
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.nightly import compare, empty_cache
from ppfr_bench.records import draws
from ppfr_bench.records.plan_file import PlanFile, PlannedCell, PlannedTable
from ppfr_bench.records.record import TRUSTED, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request

LIMITS = {".py": 200_000, ".json": 2_000_000, ".jsonl": 8_000_000, ".jpg": 4_000_000, ".parquet": 32_000_000}  # Bytes.
MOST = 200  # Files.
MOST_DRAWS = 20_000_000  # All records of an archive together have at most so many.
UNFILLED = ("", "yours, with its year", "Paper, venue, year")  # A card that nobody filled in has one of these.
_SOURCE = re.compile(r"defenses/([a-z][a-z0-9_]{0,63})\.py")
_LABEL = "[a-z0-9_]{1,64}"
_RESULT = re.compile(rf"results/({_LABEL})/(plan\.json|draws\.parquet|{_LABEL}/{_LABEL}\.(jsonl|jpg))")
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
        made.write_plan(_of_defense(plan.published(), {record.key for record in records}))
        for path in sorted(Path(folder).rglob("*")):
            place = path.relative_to(folder).as_posix()
            if path.is_file() and _RESULT.fullmatch(place):
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


def _of_defense(plan: PlanFile, keys: set[str]) -> PlanFile:
    """The plan of some cells alone, and of the defenses, attacks and recognizers that are in them."""
    tables = {}
    for label, table in plan.tables.items():
        cells = tuple(cell for cell in table.cells if cell.key in keys)
        update = {
            "cells": cells,
            "defenses": _kept(table.defenses, {cell.defense for cell in cells}),
            "attacks": _kept(table.attacks, {cell.attack for cell in cells}),
            "recognizers": _kept(table.recognizers, {cell.recognizer for cell in cells}),
        }
        tables[label] = table.model_copy(update=update)
    return plan.model_copy(update={"tables": tables})


def _kept(parts: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {label: part for label, part in parts.items() if label in names}


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
        raise UserError(f"{title} {record.status}: {record.reason}", f"Mend that, then:  {again} --rerun failed")
    if TRUSTED in record.flags:
        raise UserError(
            f"{title} was measured with code of a file in the harness's own process (flag '{TRUSTED}')",
            f"Without --trust and without files of attacks:  {again} --rerun all",
        )
    if record.environment.dirty is not False or not record.environment.commit:
        raise UserError(
            f"{title} was measured with changes that no commit has",
            f"Commit, then:  {again} --rerun all",
        )
    return record


@dataclass(frozen=True)
class Submission:
    """What an archive holds, checked: its files by path, its records with their sample faces, and their plans."""

    name: str
    files: dict[str, bytes]
    records: tuple[Record, ...]
    strips: dict[str, bytes]
    plans: tuple[PlanFile, ...]


def read(path: Path) -> Submission:
    """An archive, if there is nothing in it but one defense and its good records.

    Raises:
        UserError: what is wrong with it, by file.
    """
    files = _files(path)
    sources = [name for name in files if _SOURCE.fullmatch(name)]
    if len(sources) != 1:
        raise UserError(f"{path}: expected one defenses/NAME.py, got {len(sources)}", _ASK)
    name = Path(sources[0]).stem
    for place in files:
        if place.endswith(".jpg") and f"{place.removesuffix('.jpg')}.jsonl" not in files:
            raise UserError(f"{path}: {place} belongs to no record", _ASK)
    with TemporaryDirectory(prefix="ppfr-bench-accept-") as folder:
        for place, content in files.items():
            write_atomic(Path(folder) / place, content)
        store = ResultStore(Path(folder) / "results")
        suites = sorted({found[1] for place in files if (found := _RESULT.fullmatch(place))})
        try:
            _check_draws(files)
            plans = [plan for suite in suites if (plan := store.plan(suite)) is not None]
            records = [record for suite in suites for record in store.records(suite)]
        except UserError as error:
            raise UserError(f"{path}: {error.message}".replace(folder, ""), _ASK) from error
        strips = {record.key: strip for record in records if (strip := store.strip(record))}
    planned = {
        cell.key: (plan.suite, table, cell) for plan in plans for table in plan.tables.values() for cell in table.cells
    }
    for record in records:
        if wrong := _unfit(record, name, planned):
            raise UserError(f"{path}: {record.title}: {wrong}", _ASK)
    if not records:
        raise UserError(f"{path} holds no record", _ASK)
    if missing := sorted(set(planned) - {record.key for record in records}):
        raise UserError(f"{path}: its plan has {len(missing)} cells without a record", _ASK)
    if any(map(_may_be_real, records)) and any(place.endswith(".jpg") for place in files):
        raise UserError(f"{path}: pictures come with records of real people", _ASK)
    others = {one.component.name for plan in plans for table in plan.tables.values() for one in table.defenses.values()}
    if others - {name}:
        raise UserError(f"{path}: its plan is of other defenses too: {', '.join(sorted(others - {name}))}", _ASK)
    for plan in plans:
        _check_rows(records, plan, path)
    return Submission(name, files, tuple(records), strips, tuple(plans))


def _check_draws(files: Mapping[str, bytes]) -> None:
    """Raises:
    UserError: a small file that would fill the memory.
    """
    for place, content in files.items():
        if place.endswith(".parquet") and (count := draws.count(content, place)) > MOST_DRAWS:
            raise UserError(f"{place} has {count:,} numbers, at most {MOST_DRAWS:,} are taken")


def _unfit(record: Record, name: str, planned: Mapping[str, tuple[str, PlannedTable, PlannedCell]]) -> str:
    """Why a record may not be taken; empty if it may."""
    if record.defense.name != name:
        return f"it is of defense '{record.defense.name}', not of '{name}'"
    if record.status != "ok" or record.environment.dirty is not False or not record.environment.commit:
        return f"{record.status}, {'clean' if record.environment.dirty is False else 'changed'} code"
    if TRUSTED in record.flags:
        return f"it is flagged '{TRUSTED}': code of a file ran in the harness's own process"
    if record.attack is not None and record.attack.name not in registry.names("attack"):
        return f"attack '{record.attack.name}' is not known here"
    if record.key not in planned:
        return "its plan has no such cell"
    suite, table, cell = planned[record.key]
    here = record.suite, record.dataset.label, record.defense.label, record.slot, record.seed
    if here != (suite, table.dataset.label, *cell.place):
        return "its plan has no such cell"
    if record.seed != table.seed:
        return f"its seed is {record.seed}, that of its plan {table.seed}"
    if record.real_people != table.real_people:
        return "its plan says otherwise of whether there are real people"
    if record.dataset.name in registry.names("dataset"):
        real = registry.load("dataset", record.dataset.name).card.real_people
        if record.real_people != real:
            return f"the people of data set '{record.dataset.name}' are {'real' if real else 'not real'}"
    return ""


def _may_be_real(record: Record) -> bool:
    """Whether its pictures may be of real people: what is not known here may be anything."""
    return record.real_people or record.dataset.name not in registry.names("dataset")


def _check_rows(records: Sequence[Record], plan: PlanFile, path: Path) -> None:
    """Raises:
    UserError: no board could be made of the plan, or its records were made with other settings than it says.
    """
    try:
        rows = build(records, plan)
    except UserError as error:
        raise UserError(f"{path}: {error.message}", _ASK) from error
    for row in rows:
        for cell in row.gaps:
            if cell.state == "incomparable":
                raise UserError(f"{path}: {row.defense} / {cell.title}: {cell.reason}", _ASK)


_ASK = "Nothing was taken. Ask for one that ppfr-bench submit has made."


def _files(path: Path) -> dict[str, bytes]:
    """The files of an archive by path, none of them large, none of them elsewhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise UserError(f"{path}: {len(members)} files, at most {MOST} are taken", _ASK)
            files = {}
            for member in members:
                place = member.filename
                if not (_SOURCE.fullmatch(place) or _RESULT.fullmatch(place)) or place in files:
                    raise UserError(f"{path}: {place[:200]!r} is no place of a defense or a record", _ASK)
                limit = LIMITS[Path(place).suffix]
                with archive.open(member) as opened:
                    files[place] = opened.read(limit + 1)  # The size that the archive states is not trusted.
                if len(files[place]) > limit:
                    raise UserError(f"{path}: {place} is larger than {limit:,} bytes", _ASK)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not an archive that can be read: {error}", _ASK) from error
    return files


def take(path: Path, root: Path) -> Submission:
    """Add what an archive holds to a checkout below ``root``: nothing of it runs, and no other row is touched.

    Raises:
        UserError: as ``read``; or a file or a record of the same name or key holds something else; or its rows would
            not compare with those of the board, or would change them.
    """
    found = read(path)
    source = f"defenses/{found.name}.py"
    there = root / source
    if there.is_file() and there.read_bytes() != found.files[source]:
        raise UserError(f"{there} holds something else", "Nothing was taken. Move that file away first.")
    store = ResultStore(root / "results")
    plans = [_beside(board, plan, path) if (board := store.plan(plan.suite)) else plan for plan in found.plans]
    for record in found.records:
        known = store.find(record.suite, record.key)
        if known is not None and known != record:
            raise UserError(
                f"{record.title}: {store.root / record.suite} holds another record of its key {record.key[:12]}",
                "Nothing was taken. Find out which of the two is right:  ppfr-bench score NAME --anew",
            )
    write_atomic(there, found.files[source])
    for record in found.records:
        store.write(record, found.strips.get(record.key))
    for plan in plans:
        store.write_plan(plan)
        store.compact(plan.suite)
    return found


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
                raise UserError(f"{path}: {label}: {wrong}", _ASK)
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
        UserError: data that somebody trains on and is measured on.
    """
    same, within, outside = 0, 0, []
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
