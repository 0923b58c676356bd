"""Where records are kept: published in few files, and one file a cell while a run goes on.

Below the root, which is a folder or a URL::

    <suite>/plan.json                      which cells make a board (``plan_file.py``)
    <suite>/claims.json                    which rows are claimed by their authors (``claims.py``)
    <suite>/<data set>/<defense>.jsonl     the records of a row (``rows.py``)
    <suite>/<data set>/<defense>.jpg       its sample faces, where they may be shown (``samples.py``)
    <suite>/draws.parquet                  bootstrap draws of all records of the suite (``draws.py``)
    <suite>/set-aside/<shelf>/...          the same of records that others have taken the place of
    <suite>/.cells/<key>.json, .jpg        what a run has not folded into these yet
    <suite>/.cells/.lock                   held while the others are changed

A cell's file is written whole, and removed when its record lies in the row: whoever reads sees each record once, and a
run that is killed at any moment loses none. Records of version 0.1 (``legacy.py``) are read where they lie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ppfr_bench.errors import UserError
from ppfr_bench.records import draws, legacy, rows, samples
from ppfr_bench.records.claims import Claim, ClaimFile
from ppfr_bench.records.frame import frame
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Record
from ppfr_bench.records.rows import Raw
from ppfr_bench.records.shelf import ASIDE, Shelf, checked
from ppfr_bench.records.storage import storage
from ppfr_bench.text import decode_text, parse_json

if TYPE_CHECKING:
    from ppfr_bench.records.storage import Place

CELLS = ".cells"


class ResultStore:
    """The records below a folder or a URL such as ``s3://bucket/results``.

    Raises:
        UserError: the package for this kind of URL is not installed.
    """

    def __init__(self, root: str | Place) -> None:
        self.files = storage(root)
        self._shelves: dict[str, Shelf] = {}

    @property
    def root(self) -> Place:
        """The folder, or the URL."""
        return self.files.root

    # What there is -------------------------------------------------------------------------------------------------

    def suites(self) -> list[str]:
        """Names of the suites that have a plan or records, sorted."""
        return [name for name in self.files.folders("") if self._is_suite(name)]

    def plan(self, suite: str) -> PlanFile | None:
        """Which cells make the boards of a suite; None where no run has said so yet.

        Raises:
            UserError: the file is no plan.
        """
        path = f"{suite}/plan.json"
        content = self.files.read(path)
        if content is None:
            return None
        name = self.files.name(path)
        hint = f"Restore it from git. Or delete it, and run the suite again:  rm '{name}'"
        try:
            return PlanFile.model_validate(parse_json(decode_text(content, name), name))
        except UserError as error:
            raise UserError(error.message, hint) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"{name} is no plan: {where}: {first['msg']}",
                hint,
            ) from error

    def claims(self, suite: str) -> dict[str, Claim]:
        """The rows of a suite that are, or were, claimed by their authors, by data set and label.

        Raises:
            UserError: the file is none of ours.
        """
        path = f"{suite}/claims.json"
        content = self.files.read(path)
        if content is None:
            return {}
        try:
            return ClaimFile.model_validate_json(content).claims
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"{self.files.name(path)} holds no claims: {where}: {first['msg']}", "Restore it from git."
            ) from error

    def records(self, suite: str | None = None) -> Iterator[Record]:
        """All records in their places, of one suite or of all, in order; none that was set aside.

        Raises:
            UserError: there are none, or a file is none of ours.
        """
        names = [suite] if suite else self.suites()
        if not names or not self.files.is_folder(names[0]):
            raise UserError(
                f"no results at {self.files.name(suite) if suite else self.root}",
                f"Run the suite first:  ppfr-bench run {suite or 'quick'}",
            )
        for name in names:
            for _, record in sorted(self._all(name).items()):
                yield record()

    def statuses(self, suite: str) -> dict[str, str]:
        """Status by key of every record of a suite, in its place or set aside; of none whose draws are lost."""
        pending = {key: str(_parsed(*one)["status"]) for key, one in self._pending(suite).items()}
        found: dict[str, str] = {}
        for shelf in (*self._aside(suite), self._shelf(suite)):
            older = legacy.found_in(self.files, shelf.folder)
            found |= {key: legacy.status(self.files, path) for key, path in older.items()}
            found |= {key: line.status for row in shelf.rows().values() for key, line in row.lines.items()}
            lost = shelf.lacking()
            found = {key: status for key, status in found.items() if key not in lost}
        return found | pending

    def find(self, suite: str, key: str) -> Record | None:
        """The record of a key, in its place or set aside; None if there is none.

        Raises:
            UserError: a file is none of ours.
        """
        path = f"{suite}/{CELLS}/{key}.json"
        if (content := self.files.read(path)) is not None:
            return checked(_parsed(self.files.name(path), content), self.files.name(path))
        for shelf in (self._shelf(suite), *self._aside(suite)):
            if any(key in row.lines for row in shelf.rows().values()):
                return shelf.view([key]).record(key)
            if older := legacy.found_in(self.files, shelf.folder).get(key):
                return legacy.read(self.files, older)
        return None

    def set_aside_records(self, suite: str | None, prefix: str) -> Iterator[Record]:
        """Records that were set aside and whose key begins so."""
        for name in [suite] if suite else self.files.folders(""):
            for shelf in self._aside(name):
                yield from shelf.view().records(prefix)
                older = legacy.found_in(self.files, shelf.folder)
                yield from (legacy.read(self.files, path) for key, path in older.items() if key.startswith(prefix))

    def aside_count(self) -> int:
        """How many records are set aside, in all suites."""
        shelves = [shelf for suite in self.files.folders("") for shelf in self._aside(suite)]
        return sum(
            len(legacy.found_in(self.files, shelf.folder)) + sum(len(row.lines) for row in shelf.rows().values())
            for shelf in shelves
        )

    def file_of(self, record: Record) -> str:
        """The file, below the root, with all records of the row of a record, once a run has folded them."""
        return f"{record.suite}/{record.dataset.label}/{record.defense.label}.jsonl"

    def aside(self, suite: str) -> Place:
        """Where records of a suite lie that others have taken the place of; no board reads them."""
        return self.root / suite / ASIDE

    def strip(self, record: Record) -> bytes | None:
        """JPEG of a record's sample faces, 112 pixels high; None where there are none, or not those that it names."""
        if not record.samples or record.real_people:
            return None
        at = record.dataset.label, record.defense.label
        for shelf in (self._shelf(record.suite), *self._aside(record.suite)):
            if found := shelf.strips(at).get(record.samples):
                return found
            if older := legacy.found_in(self.files, shelf.folder).get(record.key):
                return legacy.strip(self.files, older, record)
        return self._strip(record.suite, record.key, record.samples)

    # What is written -----------------------------------------------------------------------------------------------

    def write(self, record: Record, strip: bytes | None = None) -> None:
        """Keep a record, and its sample faces first: a record that exists has them.

        Faces that the record does not name are not kept, nor those of real people. Where the same cell was measured, a
        record that it failed is not kept: another process may have been out of memory, or of older code.

        Raises:
            UserError: the folder cannot be written.
            ValueError: a draw has more digits than scorers give.
        """
        if record.status == "failed" and self.statuses(record.suite).get(record.key) == "ok":
            return
        raw = record.model_dump(mode="json")
        draws.check(rows.draws_of(raw), record.key)
        text = json.dumps(raw, sort_keys=True, allow_nan=False, ensure_ascii=False)
        with self.files.unswept(f"{record.suite}/{CELLS}/.lock"):
            if strip is not None and not record.real_people and samples.is_strip(strip, record.samples):
                self.files.write(f"{record.suite}/{CELLS}/{record.key}.jpg", strip)
            self.files.write(f"{record.suite}/{CELLS}/{record.key}.json", text.encode())

    def compact(self, suite: str) -> None:
        """Fold the files of single cells into those of their rows, and clear up after killed processes.

        Raises:
            UserError: a file is none of ours, or the folder cannot be written.
        """
        if not self.files.is_folder(suite):
            return
        with self._alone(suite):
            shelf = self._shelf(suite)
            pending = self._pending(suite)
            raw = {key: _parsed(*one) for key, one in pending.items()}
            for key, one in raw.items():
                checked(one, self.files.name(f"{suite}/{CELLS}/{key}.json"))
            strips = {one["samples"]: self._strip(suite, key, one["samples"]) for key, one in raw.items()}
            shelf.put(raw.values(), {name: strip for name, strip in strips.items() if strip})
            for every in (shelf, *self._aside(suite)):
                every.tidy()
            for key, (_, content) in pending.items():
                path = f"{suite}/{CELLS}/{key}"
                # Another content means that it was measured again meanwhile.
                if self.files.read(f"{path}.json") == content:
                    self.files.remove(f"{path}.jpg")
                    self.files.remove(f"{path}.json")
            self.files.sweep(f"{suite}/{CELLS}")

    def write_plan(self, plan: PlanFile) -> None:
        """Publish a plan: what earlier runs have planned stays, unless this one plans it otherwise."""
        with self._alone(plan.suite):
            before = self.plan(plan.suite)
            merged = before.merged(plan) if before is not None else plan
            if merged != before:
                written = merged.model_dump(mode="json", exclude=None if merged.aside else {"aside"})
                text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False)
                self.files.write(f"{plan.suite}/plan.json", (_on_one_line(text) + "\n").encode())

    def write_claims(self, suite: str, claims: Mapping[str, Claim]) -> None:
        """Note claims beside those that are there; of a row that has one, both together."""
        with self._alone(suite):
            before = self.claims(suite)
            merged = before | {row: before[row].merged(one) if row in before else one for row, one in claims.items()}
            if merged != before:
                written = ClaimFile(claims=dict(sorted(merged.items()))).model_dump(mode="json", exclude_defaults=True)
                text = json.dumps({"schema_version": 1, **written}, indent=1, sort_keys=True, ensure_ascii=False)
                self.files.write(f"{suite}/claims.json", (text + "\n").encode())

    def set_aside(self, suite: str, keys: Iterable[str], shelf: str) -> list[str]:
        """Move records from the board to ``<suite>/set-aside/<shelf>``; the keys of those that were there."""
        self.compact(suite)
        return self._move(suite, keys, self._shelf(suite), self._shelf(f"{suite}/{ASIDE}/{shelf}"))

    def bring_back(self, suite: str, keys: Iterable[str]) -> list[str]:
        """Move records that were set aside to their places; the keys of those that were.

        One whose place is taken stays where it is, unless it is the very record that is there.
        """
        wanted, moved, target = list(keys), [], self._shelf(suite)
        shelves = [one for one in self._aside(suite) if self._has(one, wanted)]
        if shelves:
            self.compact(suite)
        for shelf in shelves:
            there = {key for row in target.rows().values() for key in row.lines}
            lost = shelf.lacking() | target.lacking()
            moved += self._move(suite, [key for key in wanted if key not in there | lost], shelf, target)
            self._drop_doubles(suite, [key for key in wanted if key in there - lost], shelf)
        return moved

    def bring_back_shelf(self, suite: str, shelf: str, dataset: str) -> list[str]:
        """The same with all records of a data set that lie on one shelf."""
        found = self._shelf(f"{suite}/{ASIDE}/{shelf}")
        keys = [key for at, row in found.rows().items() for key in row.lines if at[0] == dataset]
        return self.bring_back(suite, keys)

    def write_index(self) -> None:
        """Rebuild the derived Parquet, one row a number: ``<root>/index.parquet``."""
        self.files.write("index.parquet", frame(self.records()).to_parquet(index=False))

    # ---------------------------------------------------------------------------------------------------------------

    def _is_suite(self, name: str) -> bool:
        files = {entry.name for entry in self.files.entries(name)}
        return bool(
            "plan.json" in files
            or (CELLS in files and self._cells(name))
            or self._shelf(name).listed()[0]
            or legacy.found_in(self.files, name)
        )

    def _shelf(self, folder: str) -> Shelf:
        return self._shelves.setdefault(folder, Shelf(self.files, folder))

    def _aside(self, suite: str) -> list[Shelf]:
        folder = f"{suite}/{ASIDE}"
        return [self._shelf(f"{folder}/{name}") for name in self.files.folders(folder)]

    def _all(self, suite: str) -> dict[tuple[str, ...], Callable[[], Record]]:
        """Each record of a suite by where it stands. What is not folded yet is read first: it cannot be missed."""
        pending, view = self._pending(suite), self._shelf(suite).view()
        found: dict[tuple[str, ...], Callable[[], Record]] = {}
        for where, content in pending.values():
            found[_order(_parsed(where, content))] = partial(_checked, where, content)
        for key in view.at:
            if key not in pending:
                found[view.order(key)] = partial(view.record, key)
        for key, path in legacy.found_in(self.files, suite).items():
            if key not in pending and key not in view.at:
                record = legacy.read(self.files, path)
                found[_order(record.model_dump(mode="json", exclude={"metrics"}))] = partial(_same, record)
        return found

    def _cells(self, suite: str) -> list[str]:
        names = (entry.name for entry in self.files.entries(f"{suite}/{CELLS}"))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def _pending(self, suite: str) -> dict[str, tuple[str, bytes]]:
        """What a run has not folded into the rows yet: its name for messages and its content, by key."""
        paths = {f"{suite}/{CELLS}/{key}.json": key for key in self._cells(suite)}
        found = self.files.read_all(paths)
        return {key: (self.files.name(path), found[path]) for path, key in paths.items() if path in found}

    def _strip(self, suite: str, key: str, name: str) -> bytes | None:
        """The sample faces that lie beside the file of a single cell, if they have that name."""
        content = self.files.read(f"{suite}/{CELLS}/{key}.jpg") if name else None
        return content if content is not None and samples.is_strip(content, name) else None

    def _has(self, shelf: Shelf, keys: Iterable[str]) -> bool:
        there = {key for row in shelf.rows().values() for key in row.lines}
        return not there.isdisjoint(keys) or not legacy.found_in(self.files, shelf.folder).keys().isdisjoint(keys)

    def _move(self, suite: str, keys: Iterable[str], source: Shelf, target: Shelf) -> list[str]:
        """Records and strips to the other shelf, and then away from this one: a kill between leaves both, alike."""
        with self._alone(suite):
            wanted, moved = dict.fromkeys(keys), dict[str, Raw]()
            if not self._has(source, wanted):
                return []
            view = source.view(wanted)
            strips: dict[str, bytes | None] = {}
            older = {key: path for key, path in legacy.found_in(self.files, source.folder).items() if key in wanted}
            for key in wanted:
                if key in view.at:
                    moved[key] = view.raw(key)
                    strips |= {moved[key]["samples"]: source.strips(view.at[key]).get(moved[key]["samples"])}
                elif key in older:
                    record = legacy.read(self.files, older[key])
                    record, strip = legacy.of_today(record, legacy.strip(self.files, older[key], record))
                    moved[key] = record.model_dump(mode="json")
                    strips[record.samples] = strip
            if moved:
                target.put(moved.values(), {name: strip for name, strip in strips.items() if strip})
                source.remove(moved)
                for path in older.values():
                    legacy.remove(self.files, path)
            return list(moved)

    def _drop_doubles(self, suite: str, keys: Collection[str], shelf: Shelf) -> None:
        """Take away what also lies in its place, as a move leaves it that was cut short."""
        with self._alone(suite):
            here, there = shelf.view(keys), self._shelf(suite).view(keys)
            both = [key for key in keys if key in here.at and key in there.at and here.raw(key) == there.raw(key)]
            if both:
                shelf.remove(both)

    def _alone(self, suite: str) -> AbstractContextManager[object]:
        """One process at a time changes the published files of a suite."""
        return self.files.alone(f"{suite}/{CELLS}/.lock")


def _order(raw: Raw) -> tuple[str, ...]:
    return (*rows.place_of(raw), *rows.order(raw))


def _same(record: Record) -> Record:
    return record


def _parsed(where: str, content: bytes) -> Raw:
    hint = f"Delete it and run again:  rm '{where}'"
    try:
        raw: Raw = parse_json(decode_text(content, "it"), "it", parse_float=draws.number)
        if not all(isinstance(one, str) for one in (*_order(raw), raw["status"], raw["samples"])):
            raise TypeError("a name or a key that is no text")
    except UserError as error:
        raise UserError(f"{where} is not a record: {error.message}", hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is not a record: {error!r}", hint) from error
    return raw


def _checked(where: str, content: bytes) -> Record:
    return checked(_parsed(where, content), where)


def _on_one_line(text: str) -> str:
    """Small objects on one line, so that a diff of a plan is read cell by cell."""
    return re.sub(r"\{\n\s+([^{}\[\]]*?)\n\s+\}", lambda m: "{" + re.sub(r"\n\s+", " ", m.group(1)) + "}", text)
