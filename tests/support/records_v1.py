"""Real records of version 0.1: one of each kind of cell and each scorer, packed in `tests/fixtures/records_v1.zip`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

_ARCHIVE = Path(__file__).parents[1] / "fixtures/records_v1.zip"

with zipfile.ZipFile(_ARCHIVE) as _archive:
    _CONTENT = {PurePosixPath(name): _archive.read(name) for name in sorted(_archive.namelist())}
RECORDS = [path for path in _CONTENT if path.suffix == ".json"]
STRIPS = [path for path in _CONTENT if path.suffix == ".jpg"]
assert not any(path.is_absolute() or ".." in path.parts for path in _CONTENT)


def only(pattern: str) -> PurePosixPath:
    """The one file whose path matches."""
    (path,) = (path for path in _CONTENT if path.match(pattern))
    return path


def content(path: PurePosixPath) -> bytes:
    return _CONTENT[path]


def data_of(path: PurePosixPath) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_CONTENT[path])
    return found


def unpack(folder: Path, suite: str = "") -> None:
    """Writes all files into a folder, or those of one suite into it as if it were the suite's own folder."""
    for path, written in _CONTENT.items():
        if path.is_relative_to(suite):
            target = folder.joinpath(*path.relative_to(suite).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(written)
