"""How the records of a board row lie in one file: what they share in the first line, and then a line for each.

Bootstrap draws are not in it: they lie in one Parquet for all rows (``draws.py``), and a line says how many lists of
draws its record has there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.records.record import SCHEMA_VERSION
from ppfr_bench.text import parse_json

Raw = dict[str, Any]  # A record as JSON has it.
Place = tuple[str, str]  # Labels of its data set and its defense.

_SHARED = (  # Nearly all records of a row have these fields alike.
    "suite", "dataset", "dataset_revision", "real_people", "track", "defense", "defense_card", "guarantee", "seed",
    "environment", "surrogate", "adapted", "builds_on", "knowledge", "reason", "flags", "log", "training", "samples",
    "scorer", "sets", "status",
)  # fmt: skip
_MEANING = ("metric", "version", "direction", "unit")  # These fields of a measurement say what its numbers mean.
_PARTS = ("value", "floor", "ceiling", "leakage")
_HINT = "Restore it from git, or delete it and run again."


class Line(NamedTuple):
    """A record of a file.

    Attributes:
        order: where it stands among others; ``samples``: its strip of sample faces; ``draws``: how many lists it has.
    """

    order: tuple[str, ...]
    status: str
    samples: str
    draws: int
    text: str


@dataclass
class Row:
    """A file that was read: its lines by key, in their order."""

    where: str = ""
    shared: Raw = field(default_factory=dict)
    meanings: Raw = field(default_factory=dict)
    sheet: Raw | None = None
    lines: dict[str, Line] = field(default_factory=dict)

    def raw(self, key: str) -> Raw:
        """The record of a key, without its draws, and with their number under ``draws``."""
        return self._whole(json.loads(self.lines[key].text))

    def __iter__(self) -> Iterator[Raw]:
        """All of them."""
        return (self.raw(key) for key in self.lines)

    def add(self, text: str, number: int, place: tuple[str, ...]) -> None:
        """A line of the file.

        Raises:
            UserError: it is no record, or belongs elsewhere.
        """
        where = f"{self.where}, line {number}"
        try:
            raw = self._whole(_json(text, where))
            found = Line(order(raw), raw["status"], raw["samples"], int(raw.get("draws", 0)), text)
            key, belongs = raw["key"], (raw["suite"], *place_of(raw))
            if not all(isinstance(one, str) for one in (key, found.status, found.samples, *found.order, *belongs)):
                raise TypeError("a name or a key that is no text")
            parts = (one.get(part) for one in raw["metrics"].values() for part in _PARTS)
            if not all(isinstance(part, dict | None) for part in parts):
                raise TypeError("a measurement that is no estimate")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{where} is not a record: {error!r}", _HINT) from error
        if belongs != place:
            raise UserError(
                f"{where}: its record belongs to {'/'.join(map(str, belongs))}",
                "Records are never moved by hand: restore the file from git, or run again.",
            )
        if key in self.lines:
            raise UserError(f"{where}: another line has the key {key[:12]} too", "Delete one of them, and run again.")
        self.lines[key] = found

    def _whole(self, line: Raw) -> Raw:
        metrics = {name: self.meanings.get(name, {}) | one for name, one in line.get("metrics", {}).items()}
        return {"schema_version": SCHEMA_VERSION, **self.shared, **line, "metrics": metrics}


def place_of(record: Raw) -> Place:
    """The row of a record."""
    return record["dataset"]["label"], record["defense"]["label"]


def order(record: Raw) -> tuple[str, ...]:
    """Where a record stands in its row."""
    labels = ((record.get(part) or {}).get("label", "") for part in ("attack", "recognizer"))
    return record["cell"], *labels, f"{record['seed']:012d}", record["key"]


def write(records: Iterable[Raw], sheet: Raw | None = None) -> bytes:
    """The file of a row: the same records give the same bytes.

    Args:
        sheet: what is noted of its sheet of sample faces.
    """
    rows = [_without_draws(record) for record in sorted(records, key=order)]
    shared = {name: _most(rows, name) for name in _SHARED}
    meanings = {name: meaning for row in rows for name, meaning in _meanings(row).items()}
    head: Raw = {"schema_version": SCHEMA_VERSION, "shared": shared, "measurements": meanings}
    lines = [head | ({"sheet": sheet} if sheet else {})]
    for row in rows:
        line = {name: value for name, value in row.items() if name not in _SHARED or value != shared[name]}
        del line["schema_version"]
        line["metrics"] = {
            name: {part: one[part] for part in one if part not in _MEANING or one[part] != meanings[name][part]}
            for name, one in row["metrics"].items()
        }
        lines.append(line)
    return "".join(
        json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n" for line in lines
    ).encode()


def read(content: bytes, where: str, place: tuple[str, ...]) -> Row:
    """What ``write`` has written.

    Args:
        where: names the file in messages.
        place: labels of the suite, data set and defense whose records it should hold.

    Raises:
        UserError: a line is none of ours, of another schema, or of another row; which, and what to type.
    """
    try:
        lines = content.decode().removesuffix("\n").split("\n")  # JSON has no bare line feed, but may have U+2028.
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}, line {number} is not a record: it is not UTF-8", _HINT) from error
    head = _json(lines[0], f"{where}, line 1")
    check_schema(head.get("schema_version"), where)
    try:
        row = Row(where, dict(head["shared"]), dict(head["measurements"]), head.get("sheet"))
        if row.sheet is not None:
            [(str(name), int(faces)) for name, faces in row.sheet["strips"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}, line 1 does not head a file of records: {error!r}", _HINT) from error
    for number, text in enumerate(lines[1:], 2):
        row.add(text, number, place)
    return row


def check_schema(found: object, where: str) -> None:
    """Raises:
    UserError: records of another schema, or of none.
    """
    if found == SCHEMA_VERSION:
        return
    newer = isinstance(found, int) and found > SCHEMA_VERSION
    raise UserError(
        f"{where}: expected schema_version {SCHEMA_VERSION}, got {found!r}",
        "A newer ppfr-bench wrote it:  pip install --upgrade ppfr-bench" if newer else _HINT,
    )


def draws_of(record: Raw) -> Mapping[tuple[str, str], list[float]]:
    """The draws of a record, by measurement and part."""
    return {
        (name, part): one[part]["draws"]
        for name, one in record["metrics"].items()
        for part in _PARTS
        if one.get(part) and one[part].get("draws")
    }


def _json(text: str, where: str) -> Raw:
    try:
        found = parse_json(text, "it")
    except UserError as error:
        raise UserError(f"{where} is not a record: {error.message}", _HINT) from error
    if not isinstance(found, dict):
        raise UserError(f"{where} is not a record: {text:.60}", _HINT)
    return found


def _most(rows: list[Raw], name: str) -> Any:
    """The value that most of the rows have, the shortest among equals."""
    counts = Counter(canonical_json(row.get(name)) for row in rows)
    return json.loads(min(counts, key=lambda text: (-counts[text], len(text), text)))


def _meanings(row: Raw) -> dict[str, Raw]:
    return {name: {part: one[part] for part in _MEANING} for name, one in row["metrics"].items()}


def _without_draws(record: Raw) -> Raw:
    """With the number of lists of draws instead of the draws, and without what is as it is by default."""
    metrics = {}
    for name, one in record["metrics"].items():
        kept = {part: one[part] for part in _MEANING}
        for part in _PARTS:
            if (estimate := one.get(part)) is not None:
                kept[part] = {
                    k: v for k, v in estimate.items() if k in ("value", "n") or (k in ("interval", "reason") and v)
                }
        metrics[name] = kept
    count = len(draws_of(record)) or record.get("draws", 0)
    return {**record, "metrics": metrics} | ({"draws": count} if count else {})
