"""The rows of one folder: files of records, sheets of sample faces, and the draws of them all.

What was read is kept in memory as long as the files stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ppfr_bench.errors import UserError
from ppfr_bench.records import draws, rows, samples
from ppfr_bench.records.record import Record
from ppfr_bench.records.rows import Place, Raw, Row
from ppfr_bench.records.storage import Storage

ASIDE = "set-aside"  # No label of a data set has a hyphen.
_DRAWS = "draws.parquet"
_TRIES = 3  # Another process may be changing rows and draws as they are read.
_Stamp = tuple[object, ...]


class Shelf:
    """Published records in ``folder``: that of a suite, or one below its ``set-aside``."""

    def __init__(self, files: Storage, folder: str) -> None:
        self.files, self.folder = files, folder
        self.suite = folder.partition("/")[0]
        self._rows: dict[Place, tuple[_Stamp, Row]] = {}
        self._draws: tuple[_Stamp, draws.Draws] = ((), {})
        self._strips: dict[Place, tuple[_Stamp, dict[str, bytes]]] = {}

    # What is read --------------------------------------------------------------------------------------------------

    def rows(self) -> dict[Place, Row]:
        """All of them, in order, without draws.

        Raises:
            UserError: a file is none of ours.
        """
        listed, _ = self.listed()
        new = {at: self._path(at, "jsonl") for at, stamp in listed.items() if self._rows.get(at, ((),))[0] != stamp}
        contents = self.files.read_all(new.values())
        for at, path in new.items():
            if path in contents:
                row = rows.read(contents[path], self.files.name(path), (self.suite, *at))
                self._rows[at] = listed[at], row
        self._rows = {at: self._rows[at] for at in sorted(listed) if at in self._rows}
        return {at: row for at, (_, row) in self._rows.items()}

    def view(self, keys: Collection[str] | None = None) -> View:
        """All records, with their draws.

        Args:
            keys: of those that must have their draws; None for all.

        Raises:
            UserError: a file is none of ours, or lacks draws.
        """
        for _ in range(_TRIES):
            found = View(self, {}, self.rows(), self._all_draws())
            lacking = [key for key in _lacking(found.rows, found.lists) if keys is None or key in keys]
            found.at.update((key, at) for at, row in found.rows.items() for key in row.lines)
            if not lacking:
                return found
        raise UserError(
            f"{self.files.name(f'{self.folder}/{_DRAWS}')} lacks draws of {len(lacking)} records, as {lacking[0][:12]}",
            "Restore it from git together with the files of records beside it, or run the suite again, which measures "
            "them anew. What the suite has no more can only be restored, or deleted with its file of records.",
        )

    def lacking(self) -> set[str]:
        """Keys of the records whose draws are lost.

        Raises:
            UserError: a file is none of ours.
        """
        found: list[str] = []
        for _ in range(_TRIES):
            if not (found := _lacking(self.rows(), self._all_draws())):
                break
        return set(found)

    def strips(self, at: Place) -> Mapping[str, bytes]:
        """The sample faces of a row, by name."""
        row = self.rows().get(at)
        if row is None:
            return {}
        stamp = self._rows[at][0]
        if self._strips.get(at, ((), {}))[0] != stamp:
            wanted = {line.samples for line in row.lines.values()} - {""}
            content = self.files.read(self._path(at, "jpg")) if wanted else None
            self._strips[at] = stamp, samples.strips_of(content, wanted, row.sheet) if content else {}
        return self._strips[at][1]

    def listed(self) -> tuple[dict[Place, _Stamp], set[Place]]:
        """The files of rows with their stamps, and the sheets."""
        found: dict[Place, _Stamp] = {}
        sheets: set[Place] = set()
        for dataset in self.files.folders(self.folder):
            if dataset == ASIDE:
                continue
            for entry in self.files.entries(f"{self.folder}/{dataset}"):
                stem, _, suffix = entry.name.rpartition(".")
                if suffix == "jsonl":
                    found[dataset, stem] = entry.stamp
                elif suffix == "jpg":
                    sheets.add((dataset, stem))
        return found, sheets

    # What is written, under the lock of the suite ------------------------------------------------------------------

    def put(self, records: Iterable[Raw], strips: Mapping[str, bytes]) -> None:
        """Add records, each with its draws, and sample faces by name.

        Draws come first and the lines of a row last, so that a line has what it names.
        """
        new = {raw["key"]: raw for raw in records}
        if not new:
            return
        before = self.rows()
        lists = self._all_draws() | {key: found for key, raw in new.items() if (found := rows.draws_of(raw))}
        self._write_draws(lists)
        changed = {rows.place_of(raw) for raw in new.values()}
        changed |= {at for at, row in before.items() if new.keys() & row.lines.keys()}
        for at in sorted(changed):
            kept = [raw for raw in before.get(at, Row()) if raw["key"] not in new]
            self._write_row(at, [*kept, *(raw for raw in new.values() if rows.place_of(raw) == at)], strips)

    def remove(self, keys: Iterable[str]) -> None:
        """Take records away, their draws last."""
        gone = set(keys)
        for at, row in self.rows().items():
            if gone & row.lines.keys():
                self._write_row(at, [raw for raw in row if raw["key"] not in gone], {})
        self.tidy()

    def tidy(self) -> None:
        """Remove what killed processes have left: half-written files, and sheets and draws that no record has."""
        listed, sheets = self.listed()
        for at in sorted(sheets - listed.keys()):
            self.files.remove(self._path(at, "jpg"))
        for dataset in sorted({dataset for dataset, _ in listed.keys() | sheets}):
            self.files.sweep(f"{self.folder}/{dataset}")
        self.files.sweep(self.folder)
        content = self.files.read(f"{self.folder}/{_DRAWS}")
        if content is not None:
            keys = {key for row in self.rows().values() for key, line in row.lines.items() if line.draws}
            if draws.keys_of(content, self.files.name(f"{self.folder}/{_DRAWS}")) - keys:
                self._write_draws({key: one for key, one in self._all_draws().items() if key in keys})

    # ---------------------------------------------------------------------------------------------------------------

    def _path(self, at: Place, suffix: str) -> str:
        return f"{self.folder}/{at[0]}/{at[1]}.{suffix}"

    def _all_draws(self) -> draws.Draws:
        path = f"{self.folder}/{_DRAWS}"
        stamp = next((one.stamp for one in self.files.entries(self.folder) if one.name == _DRAWS), ())
        if self._draws[0] != stamp:
            content = self.files.read(path) if stamp else None
            self._draws = stamp, draws.read(content, self.files.name(path)) if content is not None else {}
        return self._draws[1]

    def _write_draws(self, lists: Mapping[str, Any]) -> None:
        before = self._all_draws()
        if lists and not (lists.keys() == before.keys() and all(lists[key] is before[key] for key in lists)):
            self.files.write(f"{self.folder}/{_DRAWS}", draws.write(lists))
        elif not lists and before:
            self.files.remove(f"{self.folder}/{_DRAWS}")

    def _write_row(self, at: Place, records: Sequence[Raw], strips: Mapping[str, bytes]) -> None:
        names = dict.fromkeys(raw["samples"] for raw in sorted(records, key=rows.order) if raw["samples"])
        there = {**self.strips(at), **strips}
        laid = {name: there[name] for name in names if name in there}
        sheet, note = samples.sheet_of(laid) if laid else (None, None)
        if sheet is not None:
            self.files.write(self._path(at, "jpg"), sheet)
        if records:
            self.files.write(self._path(at, "jsonl"), rows.write(records, note))
        else:
            self.files.remove(self._path(at, "jsonl"))
        if sheet is None:
            self.files.remove(self._path(at, "jpg"))


@dataclass
class View:
    """The records of a shelf as they were at one moment.

    Attributes:
        at: the row of each key.
    """

    shelf: Shelf
    at: dict[str, Place]
    rows: dict[Place, Row]
    lists: draws.Draws

    def order(self, key: str) -> tuple[str, ...]:
        """Where a record stands among all."""
        return (*self.at[key], *self.rows[self.at[key]].lines[key].order)

    def raw(self, key: str) -> Raw:
        """A record as JSON has it."""
        found = self.rows[self.at[key]].raw(key)
        found.pop("draws", None)
        metrics: dict[str, Any] = found["metrics"]
        for (name, part), one in self.lists.get(key, {}).items():
            if metrics.get(name, {}).get(part):
                metrics[name][part] = {**metrics[name][part], "draws": draws.numbers(one)}
        return found

    def record(self, key: str) -> Record:
        """A record.

        Raises:
            UserError: it is none.
        """
        return checked(self.raw(key), self.shelf.files.name(self.shelf.folder))

    def records(self, prefix: str = "") -> Iterator[Record]:
        """All records, or those whose key begins so."""
        return (self.record(key) for key in self.at if key.startswith(prefix))


def _lacking(found: Mapping[Place, Row], lists: draws.Draws) -> list[str]:
    lines = [(key, line) for row in found.values() for key, line in row.lines.items()]
    # Draws of a record that has none are those of another that had its key: the next to tidy up removes them.
    return [key for key, line in lines if line.draws and len(lists.get(key, ())) != line.draws]


def checked(raw: Raw, where: str) -> Record:
    """The record of what JSON has.

    Raises:
        UserError: it is none; which it is, and what to type.
    """
    where = f"{where}: record {str(raw.get('key'))[:12]}"
    rows.check_schema(raw.get("schema_version"), where)
    try:
        return Record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{where}: {field}: {first['msg']}",
            "Records are never edited by hand: restore the file from git, or run again.",
        ) from error
