"""A night is measured where nothing can be written, and taken where nothing of it runs.

Whoever measures runs plug-ins, and may be lied to by them. So what comes of a night is taken only where the repository
says that it can be another: a record that is there stays as it is, and a new one needs a version that was raised in the
source. Sources are read and never imported.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ppfr_bench import registry
from ppfr_bench.datasets.opening import open_dataset
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.archives import LIMITS, RESULT, wrong_content
from ppfr_bench.maintenance.comparison import lacking
from ppfr_bench.maintenance.nightly import Night, append_history, numbers_of_rows, read_history
from ppfr_bench.maintenance.numbers import impossible
from ppfr_bench.maintenance.strict import strict_json
from ppfr_bench.maintenance.validation import check_types, unfit, wrong_log
from ppfr_bench.metrics import metric_info, metric_names
from ppfr_bench.records.plan_file import PlanFile, PlannedCell, PlannedTable
from ppfr_bench.records.record import Component, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.supersede import SETTINGS
from ppfr_bench.suites import load_suite
from ppfr_bench.text import printable, read_bytes

_NIGHT = TypeAdapter(Night)
_HINT = "Nothing was taken. Measure by hand what changed, and look at what the night has run:  make official"
_VERIFICATION = "verification"


@dataclass(frozen=True)
class Taken:
    """What was taken of a night: how many records are new, and its line of the history."""

    records: int
    night: Night


def take_night(folder: Path, suite: str, store: ResultStore, history: Path, root: Path, tonight: date) -> Taken:
    """Add a night that was measured elsewhere to the records, if nothing in it is other than it can be.

    Args:
        folder: of its files: ``results/SUITE/...`` and ``leaderboards/nights.jsonl``; others are not read.
        history: of the nights before.
        root: the checkout, whose plug-ins say which versions there are.

    Raises:
        UserError: what is wrong with it. Nothing is written then.
    """
    where = printable(folder)
    files = dict(_files(folder, suite))
    for place, content in files.items():
        if wrong := wrong_content(place, content):
            raise UserError(f"{where}: {place}: {wrong}", _HINT)
    past = read_history(history)
    night = _night(folder / "leaderboards" / "nights.jsonl", past, suite, tonight)
    with TemporaryDirectory(prefix="ppfr-bench-night-") as name:
        for place, content in files.items():
            write_atomic(Path(name) / place, content)
            if place.endswith(".jsonl"):
                check_types(content, place)
        measured = ResultStore(Path(name) / "results")
        records, plan = list(measured.records(suite)), measured.plan(suite)
        board = store.plan(suite)
        if plan is None or board is None:
            raise UserError(f"{where}: there is no plan of {suite} in it, or none in the repository", _HINT)
        plan = plan.model_copy(update={"title": board.title, "aside": {}})
        _check_plan(plan, board, root)
        new = [record for record in records if _is_new(record, store)]
        for record in new:
            if wrong := _unfit(record, plan, board, store, root):
                raise UserError(f"{where}: {record.title}: {wrong}", _HINT)
        if foreign := sorted(_keys(plan) - _keys(board) - {one.key for one in records}):
            raise UserError(
                f"{where}: {len(foreign)} new cells of its plan have no record, as {foreign[0][:12]}", _HINT
            )
        gone = sorted(_keys(board) - _keys(board.merged(plan)))  # Also where a killed command has taken the new ones.
        strips = {record.key: measured.strip(record) for record in new}
    for record in new:
        store.write(record, strips[record.key])
    store.set_aside(suite, gone, SETTINGS)
    store.write_plan(plan)
    store.compact(suite)
    rows = numbers_of_rows(build(store.records(suite), store.plan(suite) or plan, store.claims(suite)))
    taken = Night(**{one.name: getattr(night, one.name) for one in fields(Night) if one.name != "rows"}, rows=rows)
    append_history(history, taken)
    return Taken(len(new), taken)


def declared_version(source: Path) -> int | None:
    """The version that the one plug-in class of a file declares, read and not run; None where it is not plain to see.

    Raises:
        UserError: the file cannot be read, or is not Python.
    """
    try:
        module = ast.parse(read_bytes(source, "Restore it from git.", "plug-in"))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{printable(source)} is not Python: {error}", "Restore it from git.") from error
    named = {
        node.value.id for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
        and [ast.unparse(target) for target in node.targets] in (["DEFENSE"], ["ATTACK"])
    }  # fmt: skip
    found = [
        line.value.value
        for node in module.body if isinstance(node, ast.ClassDef) and node.name in named
        for line in node.body
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == ["version"]
        and isinstance(line.value, ast.Constant)
    ]  # fmt: skip
    return found[0] if len(found) == 1 and type(found[0]) is int else None


def _files(folder: Path, suite: str) -> Iterator[tuple[str, bytes]]:
    """The files of the suite's records by place, none of them a link, none of them large."""
    for path in sorted((folder / "results" / suite).rglob("*")):
        place = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise UserError(f"{printable(path)} is a link", _HINT)
        if path.is_file() and RESULT.fullmatch(place):
            yield place, read_bytes(path, _HINT, "file of records", LIMITS[path.suffix])


def _night(path: Path, past: list[dict[str, Any]], suite: str, tonight: date) -> Night:
    """The line of tonight.

    Raises:
        UserError: the history is not that of the repository and one night more, or that night is none.
    """
    lines = read_bytes(path, _HINT, "history").decode().removesuffix("\n").split("\n")
    try:
        found = [strict_json(line.encode()) for line in lines]
        mine = [one for one in found if (one["night"], one["suite"]) == (tonight.isoformat(), suite)]
        if len(mine) != 1:
            raise ValueError(f"it has {len(mine)} lines of {tonight.isoformat()}")
        others = [one for one in past if (one["night"], one["suite"]) != (tonight.isoformat(), suite)]
        if [one for one in found if one is not mine[0]] != others:
            raise ValueError("earlier nights are not as they were")
        return _NIGHT.validate_json(json.dumps(mine[0]), strict=True)
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{printable(path)} is not the history and one night more: {said}", _HINT) from error


def _check_plan(plan: PlanFile, board: PlanFile, root: Path) -> None:
    """Raises:
    UserError: it has another table, row, attack or place than the board, or versions that no source declares.
    """
    for label, table in plan.tables.items():
        here = board.tables.get(label)
        if here is None:
            raise UserError(f"its plan has a data set '{label}' that the board has not", _HINT)
        for what in ("defenses", "attacks", "recognizers"):
            if more := sorted(getattr(table, what).keys() - getattr(here, what).keys()):
                raise UserError(f"its plan has {what} that the board has not: {', '.join(more)}", _HINT)
        _check_versions(table, here, root)
        if wrong := _unlike(table, here, plan.suite):
            raise UserError(f"its plan has another {wrong} than the board, which nothing here says", _HINT)
        if more := sorted({cell.place for cell in table.cells} - {cell.place for cell in here.cells}):
            raise UserError(f"its plan has cells that the board has not, as {more[0]}", _HINT)
        for cell in table.cells:
            then = next(one for one in here.cells if one.place == cell.place)
            if cell.key != then.key and not _may_change(cell, table, here):
                what = "/".join((cell.defense, *filter(None, cell.slot)))
                raise UserError(
                    f"{what} has another key, and nothing that it is made of has another version: neither its defense, "
                    "nor an attack, a metric, the data or the protocol",
                    _HINT,
                )


def _check_versions(table: PlannedTable, here: PlannedTable, root: Path) -> None:
    """Raises:
    UserError: a component is of another version than its file declares, or of other parameters in the same version.
    """
    for folder in ("defenses", "attacks"):
        for label, planned in getattr(table, folder).items():
            component: Component = planned.component
            then: Component = getattr(here, folder)[label].component
            if component.name != then.name:
                raise UserError(f"{label} is the row of '{then.name}', and not of '{component.name}'", _HINT)
            if planned.model_copy(update={"component": then}) != getattr(here, folder)[label]:
                raise UserError(f"{label} is described otherwise than on the board", _HINT)
            if component.version == then.version and component.config != then.config:
                raise UserError(f"{label} has other parameters in the same version", _HINT)
            source = root / folder / f"{component.name}.py"
            if component.version != then.version and declared_version(source) != component.version:
                raise UserError(f"{printable(source)} does not declare version {component.version}", _HINT)


def _unlike(table: PlannedTable, here: PlannedTable, suite: str) -> str:
    """What of a table is neither as on the board nor as this checkout has it; empty if nothing."""
    for what in ("seed", "real_people", "recognizers"):
        if getattr(table, what) != getattr(here, what):
            return what
    loaded = load_suite(suite)
    if table.protocol not in (here.protocol, loaded.protocol.model_dump(mode="json")):
        return "protocol"
    if (table.revision, table.dataset) != (here.revision, here.dataset):
        dataset = open_dataset(loaded.dataset)
        if (table.revision, table.dataset.version) != (dataset.revision, dataset.version):
            return "revision of the data"
    known = metric_names()
    for name, version in table.metrics.items():
        if version != here.metrics.get(name) and (name not in known or metric_info(name).version != version):
            return f"version of metric {name[:60]}"
    return ""


def _may_change(cell: PlannedCell, table: PlannedTable, here: PlannedTable) -> bool:
    """Whether the plans differ in something that a key of the cell is made of."""
    own = table.defenses[cell.defense].component.version != here.defenses[cell.defense].component.version
    then = here.attacks
    attacks = any(one.component.version != then[label].component.version for label, one in table.attacks.items())
    shared = any(getattr(table, what) != getattr(here, what) for what in ("metrics", "revision", "protocol"))
    return own or attacks or shared


def _is_new(record: Record, store: ResultStore) -> bool:
    """Whether the repository lacks the record.

    Raises:
        UserError: it has another one of that key.
    """
    known = store.find(record.suite, record.key)
    if known is not None and known != record:
        raise UserError(
            f"{record.title}: the repository has another record of its key {record.key[:12]}, and a night changes none",
            _HINT,
        )
    return known is None


def _unfit(record: Record, plan: PlanFile, board: PlanFile, store: ResultStore, root: Path) -> str:
    """Why a new record may not be taken; empty if it may. A cell that failed is taken as such."""
    table = plan.tables.get(record.dataset.label)
    cell = next((one for one in table.cells if one.key == record.key), None) if table is not None else None
    if table is None or cell is None or (record.defense.label, record.slot, record.seed) != cell.place:
        return "its plan has no such cell"
    components = [(table.defenses[cell.defense].component, record.defense)]
    components += [(table.attacks[cell.attack].component, record.attack)] if record.attack is not None else []
    if any(planned != made for planned, made in components):
        return "its defense or its attack is not that of its plan"
    attack = table.attacks.get(cell.attack)
    scorer_name, sets = (attack.scorer, attack.sets) if attack is not None else ("", "")
    stated = record.track, record.scorer, record.sets, record.dataset_revision, record.real_people
    if stated != (table.defenses[cell.defense].track, scorer_name, sets, table.revision, table.real_people):
        return "its track, its scorer or its data are not those of its plan"
    if record.status != "ok":
        return f"it {record.status}, and has numbers" if record.metrics else ""
    if wrong := unfit(record, root) or wrong_log(record):
        return wrong
    scorer = registry.load("scorer", scorer_name or _VERIFICATION)(load_suite(record.suite).metrics)
    if wrong := impossible(record, None, scorer.metrics):
        return wrong
    key = next((one.key for one in _cells(board) if one.place == cell.place), "")
    then = store.find(record.suite, key)
    if then is not None and then.status == "ok" and (lacks := [one.reason for one in lacking(then, record)
                                                              if "is new" not in one.reason]):  # fmt: skip
        return lacks[0]
    return ""


def _cells(plan: PlanFile) -> Iterable[PlannedCell]:
    return (cell for table in plan.tables.values() for cell in table.cells)


def _keys(plan: PlanFile) -> set[str]:
    return {cell.key for cell in _cells(plan)}
