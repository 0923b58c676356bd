"""Records of schema 1 (version 0.1), which are read for ever.

There each cell has a JSON of its own, ``<suite>/<data set>/<defense>/<attack, utility or canary>/<key>.json``, and its
sample faces beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ppfr_bench.cards import TrainingLog
from ppfr_bench.errors import UserError
from ppfr_bench.records import draws, samples
from ppfr_bench.records.record import Record
from ppfr_bench.records.storage import Storage
from ppfr_bench.text import decode_text, parse_json

SCHEMA_VERSION = 1

# The measure of an attack -> the scorer of its answer, and the privacy that it sets.
SCORERS = {
    "appearance": ("reconstruction", "appearance"), "attributes": ("attributes", "appearance"),
    "identity": ("linkage", "identity"), "unlinkability": ("unlinkability", ""), "control": ("control", ""),
}  # fmt: skip
TRACKS = {"recognition": "image"}
_METRICS = {  # The metrics of these measurements are named otherwise.
    "accuracy_frozen": "accuracy", "clear_accuracy": "accuracy", "skin_tone": "attribute_error",
    "crown_tone": "attribute_error", "facial_hair": "attribute_error", "lip_colour": "attribute_error",
}  # fmt: skip
_ESTIMATE = ("value", "interval", "n", "reason")
_FILE = re.compile(r"([0-9a-f]{64})\.json")


def found_in(files: Storage, folder: str) -> dict[str, str]:
    """The files of such records below the folder of a suite, or of a shelf of set-aside ones, by key."""
    found = {}
    for dataset in files.folders(folder):
        for defense in files.folders(f"{folder}/{dataset}") if dataset != "set-aside" else ():
            for what in files.folders(f"{folder}/{dataset}/{defense}"):
                at = f"{folder}/{dataset}/{defense}/{what}"
                for entry in files.entries(at):
                    if name := _FILE.fullmatch(entry.name):
                        found[name[1]] = f"{at}/{entry.name}"
    return found


def status(files: Storage, path: str) -> str:
    """Of the record in a file."""
    return str(_parsed(files, path)["status"])


def read(files: Storage, path: str) -> Record:
    """The record in a file.

    Raises:
        UserError: it is none, or of a newer schema.
    """
    data, where = _parsed(files, path), files.name(path)
    if data.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{where}: expected schema_version {SCHEMA_VERSION}, got {data.get('schema_version')!r}",
            "Use the ppfr-bench that wrote it, or delete the file and run again.",
        )
    try:
        return upgrade(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is not a record: {error}", f"Delete it and run again:  rm '{where}'") from error


def strip(files: Storage, path: str, record: Record) -> bytes | None:
    """JPEG of the sample faces beside the file of a record; None where there are none, or not those that it names."""
    content = files.read(path.removesuffix(".json") + ".jpg") if record.samples and not record.real_people else None
    known = content is not None and hashlib.sha256(content).hexdigest() == record.samples
    return content if known else None


def of_today(record: Record, strip: bytes | None) -> tuple[Record, bytes | None]:
    """A record of ``read`` with its sample faces as they lie on a sheet (``samples.py``)."""
    pixels = samples.pixels_of(strip) if strip is not None else None
    settled = samples.settled(pixels) if pixels is not None else None
    return record.model_copy(update={"samples": samples.name_of(settled) if settled else ""}), settled


def remove(files: Storage, path: str) -> None:
    """Remove the sample faces of a record that lies elsewhere too, and then its file."""
    files.remove(path.removesuffix(".json") + ".jpg")
    files.remove(path)


def _parsed(files: Storage, path: str) -> dict[str, Any]:
    where = files.name(path)
    try:
        data = parse_json(decode_text(files.read(path) or b"", "it"), "it", parse_float=draws.number)
        if not isinstance(data, dict) or "status" not in data:
            raise ValueError("it has no status")
    except (ValueError, UserError) as error:
        said = error.message if isinstance(error, UserError) else error
        raise UserError(f"{where} is not a record: {said}", f"Delete it and run again:  rm '{where}'") from error
    return data


def upgrade(data: Mapping[str, Any]) -> Record:
    """The record of a dict as schema 1 had it, its key as it was; ``samples`` is the sha256 of its file of faces.

    Raises:
        ValidationError: it is no such record.
        ValueError, KeyError, TypeError: nor anything like it.
    """
    old = dict(data)
    card = dict(old.get("defense_card") or {})
    track, _ = card.pop("track", "recognition"), card.pop("output", None)
    scorer, sets = SCORERS[old["measures"]] if old.get("measures") else ("", "")
    log, training = dict(old.get("log") or {}), None
    if old["cell"] == "attack" and old["status"] == "ok":
        training, log = TrainingLog.of({"shots": 1} | log).model_dump(mode="json"), {}
    for name in ("measures", "samples", "samples_sha256", "schema_version"):
        old.pop(name, None)
    return Record.model_validate(
        old
        | {
            "schema_version": 2, "track": TRACKS.get(track, track), "scorer": scorer, "sets": sets, "log": log,
            "training": training, "defense_card": card, "metrics": _measurements(old.get("metrics") or {}),
            "samples": (data.get("samples_sha256") or "") if data.get("samples") else "",
        }
    )  # fmt: skip


def _measurements(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Parts of one measurement, which schema 1 told apart by affixes of their names, together again."""
    names = [name for name in metrics if _part_of(name, metrics) == (name, "value")]
    found: dict[str, Any] = {}
    for name in names:
        one = metrics[name]
        found[name] = {
            "metric": _METRICS.get(name, name), "version": one["version"], "direction": one["direction"],
            "unit": one.get("unit", ""), "value": _estimate(one),
        }  # fmt: skip
    for name, one in metrics.items():
        of, part = _part_of(name, metrics)
        if part != "value":
            found[of][part] = _estimate(one)
    return found


def _part_of(name: str, metrics: Mapping[str, Any]) -> tuple[str, str]:
    for of, part in (
        (name.removesuffix("_blind"), "floor"), (name.removesuffix("_ceiling"), "ceiling"),
        (name.removeprefix("leakage_"), "leakage"),
    ):  # fmt: skip
        if of != name and of in metrics:
            return of, part
    return name, "value"


def _estimate(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in _ESTIMATE if name in one} | {"draws": one.get("replicates", ())}
