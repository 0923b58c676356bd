"""The record of a cell: its frozen schema, the store of one JSON a cell, and the derived index.

A record is written to a temporary name and renamed, so a file that exists is whole. Its path is a function of its
content: ``<root>/<suite>/<dataset>/<defense>/<canary | utility | attack>/<key>.json``. A record that another has taken
the place of is not deleted but lies under the same path below ``<root>/<suite>/set-aside/<why>/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from ppfr_bench.cards import Config, Guarantee, Knowledge, Measures
from ppfr_bench.errors import UserError
from ppfr_bench.text import read_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
LABEL = re.compile(r"[a-z0-9_]+")
ASIDE = "set-aside"  # a hyphen: no data set is labelled so
_REVISION = re.compile(rb'^ "dataset_revision": (".*"),$', re.MULTILINE)
Status = Literal["ok", "failed", "skipped"]
CellKind = Literal["canary", "utility", "attack"]


# What a leaderboard holds tens of thousands of is a dataclass: as strict as Config, at a fifth of its memory.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


class Component(Config):
    """One plug-in with its parameters, under the label a suite gave it."""

    label: str
    name: str
    version: int
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("label", "name")
    @classmethod
    def _is_label(cls, value: str) -> str:
        if not LABEL.fullmatch(value):
            raise ValueError(f"expected lower-case letters, digits and _, got {value!r}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class MetricValue:
    """One number with its 95% interval and n; ``value`` is null with a reason, never NaN, never a silent 0.

    ``replicates`` are the bootstrap values over identities; the same draw of identities stands at the same place in
    every record of a data set, so that two defenses compare pair by pair.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    n: int = Field(ge=0)
    version: int
    direction: Literal["higher_is_better", "lower_is_better"]
    unit: str = ""
    reason: str = ""
    replicates: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> MetricValue:
        if self.value is None and not self.reason:
            raise ValueError("a missing value needs a reason")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Cost:
    """What the cell's stages took when they were first computed (cached stages report what they once took)."""

    seconds: float = 0.0
    protect_images_per_second: float | None = None
    peak_memory_mib: float | None = None
    attack_training_images: int = 0
    oracle_queries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Environment:
    """Where the record was made; never part of its key."""

    ppfr_bench: str
    commit: str | None
    dirty: bool | None
    python: str
    torch: str
    platform: str
    processor: str
    device: str
    threads: int


class Record(Config):
    """The result of one cell.

    ``cell`` is ``canary`` (clear against clear), ``utility`` (one recognizer on protected images) or ``attack``.
    ``samples`` names a picture beside the record (synthetic faces only), with its sha256.
    """

    schema_version: Literal[1] = 1
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    suite: str
    dataset: Component
    dataset_revision: str
    real_people: bool
    cell: CellKind
    defense: Component
    attack: Component | None = None
    recognizer: Component | None = None
    surrogate: bool = False  # the recognizer is the one learned defenses and attacks may train on
    adapted: bool = False  # the recognizer was fine-tuned on what the defense releases: a representation's utility
    measures: Measures | None = None
    builds_on: tuple[str, ...] = ()  # attacks that this one should never fall behind
    knowledge: Knowledge | None = None
    seed: int
    status: Status
    reason: str = ""
    metrics: dict[str, MetricValue] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    log: dict[str, Any] = Field(default_factory=dict)
    defense_card: dict[str, Any] = Field(default_factory=dict)
    guarantee: Guarantee | None = None
    samples: str | None = None
    samples_sha256: str | None = None
    environment: Environment
    cost: Cost = Cost()

    @model_validator(mode="after")
    def _status_is_explained(self) -> Record:
        if self.status != "ok" and not self.reason:
            raise ValueError("a failed or skipped cell needs a reason")
        if self.cell == "attack" and self.attack is None:
            raise ValueError("an attack cell names its attack")
        return self

    @property
    def folder(self) -> Path:
        """Where the record lies below the results root."""
        what = self.attack.label if self.attack is not None else self.cell
        return Path(self.suite) / self.dataset.label / self.defense.label / what


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary name beside ``path`` and rename: readers see the old file or the new one, whole.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some space, or choose another folder (--results DIR, --out DIR, PPFR_BENCH_CACHE=DIR).",
        ) from error


def _move(path: Path, target: Path) -> bool:
    """Move a record, its picture first, so that a record that exists has its picture; False if it is gone.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    picture, beside = path.with_suffix(".jpg"), target.with_suffix(".jpg")
    if picture.is_file():
        write_atomic(beside, picture.read_bytes())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        picture.unlink(missing_ok=True)
    except FileNotFoundError:  # another run has moved it
        return False
    except OSError as error:
        raise UserError(f"cannot move {path} to {target}: {error.strerror or error}", "Free some space.") from error
    return True


@cache
def _float(digits: str) -> float:
    """One object for one number: replicates have five digits, and there are hundreds of thousands of them."""
    return float(digits)


class ResultStore:
    """The folder of records."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, record: Record) -> Path:
        return self.root / record.folder / f"{record.key}.json"

    def write(self, record: Record, samples: bytes | None = None) -> Path:
        """Store a record, and its sample picture first: a record that exists has its picture."""
        path = self.path(record)
        if samples is not None and record.samples is not None:
            write_atomic(path.parent / record.samples, samples)
        text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        # A list of numbers on one line keeps the diff of a record readable; no JSON string holds a raw newline.
        text = re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
        write_atomic(path, (text + "\n").encode())
        return path

    def aside(self, suite: str) -> Path:
        """Where records of a suite lie that others have taken the place of; no board reads them."""
        return self.root / suite / ASIDE

    def is_aside(self, path: Path) -> bool:
        """Whether a record was set aside."""
        return ASIDE in path.relative_to(self.root).parts

    def locate(self, folder: Path, key: str) -> Path | None:
        """Where the record of a key lies, in its place or set aside; None if there is none."""
        path = self.root / folder / f"{key}.json"
        if path.is_file():
            return path
        suite, *rest = folder.parts
        return min(self.aside(suite).glob(f"*/{'/'.join(rest)}/{key}.json"), default=None)

    def find(self, folder: Path, key: str) -> Record | None:
        """The record of a key, in its place or set aside; None if there is none."""
        path = self.locate(folder, key)
        return self.read(path) if path is not None else None

    def set_aside(self, path: Path, shelf: str) -> None:
        """Move a record and its picture to ``<suite>/set-aside/<shelf>``, under the same path."""
        suite, *rest = path.relative_to(self.root).parts
        _move(path, self.aside(suite).joinpath(shelf, *rest))

    def bring_back(self, path: Path) -> bool:
        """Move a record that was set aside, and its picture, to its place; False if there is one already."""
        suite, _, _, *rest = path.relative_to(self.root).parts
        target = self.root.joinpath(suite, *rest)
        return not target.is_file() and _move(path, target)

    def paths_aside(self, suite: str = "*") -> list[Path]:
        """Where the records lie that were set aside, of one suite or of all, sorted."""
        return sorted(self.root.glob(f"{suite}/{ASIDE}/**/*.json"))

    def revision_of(self, path: Path) -> str:
        """The data revision of a record, by a look at its text: a table may hold thousands.

        Raises:
            UserError: the file is not a record of this schema.
        """
        try:
            found = _REVISION.search(path.read_bytes())
            return str(json.loads(found[1])) if found else self.read(path).dataset_revision
        except (OSError, ValueError):
            return self.read(path).dataset_revision

    def read(self, path: Path) -> Record:
        """One record.

        Raises:
            UserError: the file is not a record of this schema.
        """
        try:
            data = json.loads(read_text(path, "Is it the right file?", "record"), parse_float=_float)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a record: {error}", f"Delete it and run again:  rm '{path}'") from error
        found = data.get("schema_version") if isinstance(data, dict) else None
        if found != SCHEMA_VERSION:
            raise UserError(
                f"{path}: expected schema_version {SCHEMA_VERSION}, got {found!r}",
                "Use the ppfr-bench that wrote it, or delete the file and run again.",
            )
        try:
            return Record.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"{path}: {where}: {first['msg']}", "Records are never edited by hand: run again."
            ) from error

    def records(self, suite: str | None = None) -> Iterator[Record]:
        """All records in their places, of one suite or of all, sorted by path; none that was set aside.

        Raises:
            UserError: there is no such folder, or a file in it is not a record or lies in the wrong place.
        """
        base = self.root / suite if suite else self.root
        if not base.is_dir():
            raise UserError(f"no results at {base}", f"Run the suite first:  ppfr-bench run {suite or 'quick'}")
        for path in sorted(base.rglob("*.json")):
            if self.is_aside(path):
                continue
            record = self.read(path)
            if self.path(record) != path:
                raise UserError(f"{path} belongs at {self.path(record)}", "Records are never moved by hand: run again.")
            yield record

    def write_index(self) -> Path:
        """Rebuild the derived Parquet, one row a metric: ``<root>/index.parquet``."""
        path = self.root / "index.parquet"
        write_atomic(path, frame(self.records()).to_parquet(index=False))
        return path


def frame(records: Iterator[Record] | list[Record]) -> pd.DataFrame:
    """Tidy table of records: one row a metric, one row with an empty metric for a cell that has none."""
    import pandas as pd

    rows = []
    for record in records:
        cell = {
            "suite": record.suite, "dataset": record.dataset.label, "defense": record.defense.label,
            "cell": record.cell, "attack": record.attack.label if record.attack else "",
            "recognizer": record.recognizer.label if record.recognizer else "", "status": record.status,
            "reason": record.reason, "seed": record.seed, "key": record.key,
        }  # fmt: skip
        metrics = record.metrics.items() or [("", None)]
        for name, metric in metrics:
            low, high = metric.interval if metric and metric.interval else (None, None)
            rows.append(
                cell | {"metric": name, "value": metric.value if metric else None, "low": low, "high": high,
                        "n": metric.n if metric else 0}
            )  # fmt: skip
    return pd.DataFrame(rows)
