"""The records of a submission against the suite: exactly its cells, measured as it says, and numbers that can be."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import ppfr_bench
from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance.numbers import Counts, impossible, unlike_ceiling
from ppfr_bench.maintenance.stand_in import planned_without_import
from ppfr_bench.records import draws, rows
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.groups import Groups
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import TRUSTED, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request
from ppfr_bench.runner.scoring import header
from ppfr_bench.scorers.base import Scorer

_FLAG = re.compile(r"[a-z0-9_]{1,64}")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PLAIN = re.compile(r"[^<>]{0,500}")
_URL = re.compile(r"(https?://[\w.~:/?#@!$&'()*+,;=%-]+)?", re.ASCII)
_NOTED = {  # What a record of each kind of cell may note.
    "utility": {"threshold_frozen", "scores", "groups"},
    "attack": {"groups", "budget"},
    "canary": {"expected_accuracy"},
}


def check_types(content: bytes, place: str, name: str = "") -> None:
    """Raise where a row of records is not of one defense, or a field has another type than it should, as "0" for 0.

    Args:
        place: ``results/SUITE/DATASET/LABEL.jsonl``.
        name: of the defense; of any, without.

    Raises:
        UserError: which record, and why it may not be taken.
    """
    suite, dataset, label = place.removesuffix(".jsonl").split("/")[1:]
    for raw in rows.read(content, place, (suite, dataset, label)):
        raw.pop("draws", None)
        try:
            record = Record.model_validate_json(json.dumps(raw, allow_nan=False), strict=True)
        except ValidationError as error:
            raise UserError(f"{place}: record {str(raw['key'])[:12]}: {_first(error)}") from error
        if name and record.defense.name != name:
            raise UserError(f"{record.title}: it is of defense '{record.defense.name}', not of '{name}'")


def check_draws(content: bytes | None, records: Sequence[Record]) -> None:
    """Raises:
    UserError: draws of records that are not there.
    """
    if content is not None and (more := draws.keys_of(content, "draws.parquet") - {one.key for one in records}):
        raise UserError(f"draws.parquet has draws of {len(more)} records that are not in it, as {min(more)[:12]}")


def check(suite: str, records: Sequence[Record], stated: Any, board: ResultStore | None, root: Path | None) -> PlanFile:
    """The plan of a shipped suite for the defense of some records, if the records are exactly those of its cells.

    Args:
        stated: the plan that came with the records, as JSON has it.
        board: where the suite may have records of the defense that protects nothing.
        root: a checkout that knows commits, beside the one that this package runs from.

    Raises:
        UserError: which record may not be taken, why, and what to do.
    """
    again = f"Measure it again with this version:  ppfr-bench run {suite} --defense {records[0].defense.name}"
    for record in records:
        if wrong := unfit(record, root):
            raise UserError(f"{record.title}: {wrong}", _hint(wrong))
        if record.defense_card.get("control") is not False:
            raise UserError(f"{record.title}: its card says that it is a control, which is no submission", "")
    with planned_without_import(suite, records) as request:
        plan = request.plan
        cells = {cell.key: cell for cell in plan.cells if cell.defense.name == records[0].defense.name}
        counts = Counts.of(request.dataset, plan.setting.protocol.replicates)
        for record in records:
            cell = cells.get(record.key)
            wrong = "the suite has no cell of its key" if cell is None else _unlike(record, header(plan, cell))
            wrong = wrong or impossible(record, counts, _scorer(cell).metrics) or wrong_log(record)
            undefended = _undefended(request, cell, board)
            if not wrong and undefended is not None:
                wrong = unlike_ceiling(record, undefended)
            if wrong:
                raise UserError(f"{record.title}: {wrong}", again)
        keys = [record.key for record in records]
        if missing := [cell for key, cell in cells.items() if key not in keys]:
            raise UserError(f"{len(missing)} cells of {suite} have no record, as {missing[0].title}", again)
        if len(set(keys)) < len(keys):
            raise UserError(f"{len(keys)} records of {len(set(keys))} cells", again)
        made = plan_of_cells(plan, set(cells))
    if place := _difference(stated, made.model_dump(mode="json", exclude={"aside"}), ""):
        raise UserError(f"its plan is not that of {suite}: {place}", again)
    return made


def plan_of_cells(plan: Plan, keys: set[str]) -> PlanFile:
    """What is published of some cells alone, and of the defenses, attacks and recognizers that are in them."""
    published = plan.published()
    tables = {}
    for label, table in published.tables.items():
        cells = tuple(cell for cell in table.cells if cell.key in keys)
        update = {
            "cells": cells,
            "defenses": _kept(table.defenses, {cell.defense for cell in cells}),
            "attacks": _kept(table.attacks, {cell.attack for cell in cells}),
            "recognizers": _kept(table.recognizers, {cell.recognizer for cell in cells}),
        }
        tables[label] = table.model_copy(update=update)
    return published.model_copy(update={"tables": tables})


def known_commit(commit: str, root: Path | None = None) -> bool:
    """Whether the checkout that this package runs from, or another, has a commit."""
    if not _COMMIT.fullmatch(commit):
        return False
    for place in (Path(ppfr_bench.__file__).resolve().parents[1], root):
        if place is None or not (place / ".git").exists():
            continue
        try:
            asked = ["git", "-C", str(place), "cat-file", "-e", f"{commit}^{{commit}}"]
            if subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode == 0:
                return True
        except (OSError, subprocess.TimeoutExpired):
            continue
    return False


def unfit(record: Record, root: Path | None) -> str:
    """Why a record may not be taken, whatever the suite; empty if it may."""
    place = record.environment
    if record.status != "ok":
        return f"it {record.status}: {record.reason[:200]}"
    if TRUSTED in record.flags:
        return f"it is flagged '{TRUSTED}': code of a file ran in the harness's own process"
    if place.dirty is not False or not place.commit:
        return "it was measured with code that is not committed"
    if not known_commit(place.commit, root):
        return f"it was measured with commit {place.commit[:40]!r}, which this checkout does not know"
    for flag in record.flags:
        if not _FLAG.fullmatch(flag):
            return f"{flag[:60]!r} is no flag"
    for name, value in asdict(place).items():
        if wrong := [text for text in _texts(value) if not _PLAIN.fullmatch(text)]:
            return f"{wrong[0][:60]!r} is no {name} of an environment"
    if place.device != "cpu" or not 1 <= place.threads <= 1024:
        return f"it was measured on {place.device[:20]!r} with {place.threads} threads, expected cpu"
    if not _URL.fullmatch(str(record.defense_card.get("code_url", ""))):
        return f"{str(record.defense_card['code_url'])[:60]!r} is no address of a web page"
    cost = record.cost
    numbers = (cost.seconds, cost.shared, cost.protect_images_per_second or 0, cost.peak_memory_mib or 0,
               cost.attack_training_images, cost.oracle_queries)  # fmt: skip
    return f"its cost of {min(numbers)} is below 0" if min(numbers) < 0 else ""


def _hint(wrong: str) -> str:
    """What to do about what ``unfit`` says."""
    if "does not know" in wrong:
        return "Get it first:  git fetch URL_OF_THE_AUTHORS BRANCH   and take the archive again."
    if "--trust" in wrong:
        return "Its authors run it again without --trust, and submit that."
    return "Its authors measure it again from a commit, and submit that."


def _unlike(record: Record, expected: Mapping[str, Any]) -> str:
    """Where what a record says of its cell is not what the suite says; empty if nowhere."""
    planned = Record.model_validate(
        {**expected, "environment": record.environment, "status": "skipped", "reason": "planned"}
    ).model_dump(mode="json")
    stated = record.model_dump(mode="json")
    for name in expected:
        if stated[name] != planned[name]:
            return f"its {name} is {_shown(stated[name])}, the suite has {_shown(planned[name])}"
    return "" if (record.training is None) == (record.cell != "attack") else "its training log is missing, or too much"


def wrong_log(record: Record) -> str:
    """What is wrong with what a record notes beside its numbers; empty if nothing."""
    other = sorted(record.log.keys() - _NOTED[record.cell])
    if other and not record.adapted:  # Of a recognizer that was fine-tuned, its training log is there too.
        return f"it notes {other[0][:60]!r}, which no cell of its kind does"
    readers = {"scores": Curves.of_log, "budget": BudgetCurve.of_log, "groups": Groups.of_log}
    for name, value in record.log.items():
        if name in readers:
            if not readers[name](record.log):
                return f"its {name} are not possible"
        elif any(not _PLAIN.fullmatch(text) for text in _texts(value)):
            return f"its {name} holds text that is none of ours"
    notes = record.training.notes if record.training is not None else {}
    if any(not _PLAIN.fullmatch(text) for text in _texts(notes)):
        return "its training log holds text that is none of ours"
    return ""


def _undefended(request: Request, cell: Cell | None, board: ResultStore | None) -> Record | None:
    """The board's record of the same cell where nothing is protected, if it has one of the same settings."""
    if cell is None or board is None:
        return None
    same = (one for one in request.plan.cells if one.defense.name == request.plan.ceiling.name)
    key = next((one.key for one in same if one.slot == cell.slot), None)
    found = board.find(request.plan.suite, key) if key is not None else None
    return found if found is not None and found.status == "ok" else None


def _difference(stated: Any, made: Any, where: str) -> str:
    """Where a plan, as JSON has it, is not as it should be; empty if nowhere."""
    if isinstance(stated, dict) and isinstance(made, dict):
        for name in sorted(stated.keys() | made.keys()):
            if found := _difference(stated.get(name), made.get(name), f"{where}.{name}".lstrip(".")):
                return found
        return ""
    if isinstance(stated, list) and isinstance(made, list) and len(stated) == len(made):
        parts = (_difference(a, b, f"{where}.{i}") for i, (a, b) in enumerate(zip(stated, made, strict=True)))
        return next(filter(None, parts), "")
    same = stated == made and type(stated) is type(made)  # 0, 0.0 and false are equal in Python.
    return "" if same else f"{where or 'it'} is {_shown(stated)}, the suite has {_shown(made)}"


def _scorer(cell: Cell | None) -> Scorer:
    assert cell is not None
    found: Scorer = registry.load("scorer", cell.scorer)(cell.extra)
    return found


def _kept(parts: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {label: part for label, part in parts.items() if label in names}


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _texts(value: object) -> list[str]:
    """Every text in a value as JSON has it, names among them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list | tuple) else []


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
