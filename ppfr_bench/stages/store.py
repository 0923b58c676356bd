"""Outputs of stages, by key: a folder that workers share, or a URL with a copy of what was read in a local folder.

An output is published by renaming a finished folder, or by one upload: it is whole or absent. Who comes second finds
that the first has published the same, as one key has one content. Its notes hold the hash of every array, and of
themselves: what a disk, a kill or a stranger has changed since is computed anew, and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ppfr_bench import integrity
from ppfr_bench.errors import UserError
from ppfr_bench.places import is_file, is_folder
from ppfr_bench.records.hashing import canonical_json, digest

logger = logging.getLogger(__name__)

NOTES = "meta.json"
FORMAT = "4"  # Each format of the store has a folder of its own.
FREE = "Free some space, as ppfr-bench cache prune --keep 10 does, or choose another folder:  PPFR_BENCH_CACHE=DIR"
_MAPPED = 1 << 20  # An array is memory-mapped from so many bytes on.
# What the notes of every output have. ``files``: the sha256 of every array by its name; ``sha256``: of all other notes.
_NOTED = {"kind", "key", "files", "peak_memory_mib", "seconds", "spec", "sha256"}
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
# What zipfile and numpy raise on a damaged archive: NotImplementedError where its header names a compression that does
# not exist, RuntimeError where it says encrypted.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class Writer:
    """Where a stage puts what it computes: arrays (streamed, if they are large) and a small ``meta``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = {}

    def open(self, name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """A memory-mapped array to fill piece by piece; its room is taken now.

        Raises:
            OSError: the disk is full.
        """
        path = self.folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", shape=shape, dtype=dtype)
        integrity.reserve(path)
        return array

    def save(self, name: str, array: npt.NDArray[Any]) -> None:
        """Keep an array."""
        np.save(self.folder / f"{name}.npy", array, allow_pickle=False)


@dataclass(frozen=True)
class Output(Mapping[str, npt.NDArray[Any]]):
    """What a stage has computed: its arrays by name, memory-mapped on access, and what was noted with them.

    An array is checked against its hash when it is first used in a process.
    """

    key: str
    folder: Path
    meta: dict[str, Any]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self.meta["files"]:
            raise KeyError(name)
        try:
            self.check(name)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder} was damaged meanwhile: {error}", "Run the same command again.") from error
        path = self.folder / f"{name}.npy"
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED else None)
        return array

    def __iter__(self) -> Any:
        return iter(self.meta["files"])

    def __len__(self) -> int:
        return len(self.meta["files"])

    def check(self, name: str) -> None:
        """Raises:
        OSError, ValueError: the array cannot be read, or is not the one that was published.
        """
        if integrity.file_sha256_once(self.folder / f"{name}.npy") != self.meta["files"][name]:
            raise ValueError(f"{name}.npy has another hash")

    @property
    def seconds(self) -> float:
        """What it took when it was computed."""
        return float(self.meta["seconds"])


class StageStore:
    """Outputs below a folder; with a ``url``, the folder holds copies of what lies there.

    Args:
        url: of any file system that fsspec knows, such as ``s3://bucket/stages``.
    """

    def __init__(self, root: Path, url: str = "") -> None:
        self.root, self.url = root / FORMAT, f"{url.rstrip('/')}/{FORMAT}" if url else ""
        self._said: set[Path] = set()
        self._shared: set[str] = set()  # Keys of outputs that were seen at the URL.

    def find(self, kind: str, key: str, *, whole: bool = True) -> Output | None:
        """The output of a stage; None if it was never computed, or is damaged and has to be computed anew.

        Args:
            whole: False if only its notes are wanted: then its arrays are checked when they are used.

        Raises:
            UserError: the URL cannot be read, or its copies cannot be kept in the folder.
        """
        found = self._read(kind, key, whole)
        if found is not None and self.url and key not in self._shared:
            return self._share(kind, key, found)
        if found is None and self.url:
            try:
                if self._download(kind, key):
                    found = self._read(kind, key, whole)
            except OSError as error:
                raise self._not_kept(kind, error) from error
        return found

    def compute(self, kind: str, key: str, spec: Mapping[str, Any], function: Callable[[Writer], None]) -> Output:
        """Compute a stage and publish it.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        folder = self._folder(kind, key)
        temporary = folder.with_name(f"{key}.{platform.node()}.{os.getpid()}.tmp")
        try:
            self._make_room(folder.parent)
            _clear_leftovers(folder)
            temporary.mkdir()
            writer, start = Writer(temporary), time.perf_counter()
            function(writer)
            writer.meta |= {
                "seconds": round(time.perf_counter() - start, 3), "peak_memory_mib": peak_memory_mib(),
                "spec": json.loads(canonical_json(spec)), "pid": os.getpid(), "kind": kind, "key": key,
            }  # fmt: skip
            _seal(temporary, writer.meta)
            self._publish(temporary, folder)
        except OSError as error:
            raise self._not_kept(kind, error) from error
        finally:
            integrity.remove(temporary)
        if self.url:
            self._upload(kind, key, folder)
        found = self._read(kind, key)
        if found is None:
            raise UserError(
                f"the stage '{kind}' was damaged as soon as it was kept under {self.root.parent}",
                "Check the disk, or choose another folder:  PPFR_BENCH_CACHE=DIR",
            )
        return found

    def get(self, kind: str, spec: Mapping[str, Any], function: Callable[[Writer], None]) -> Output:
        """The output of a stage without upstream stages, computed now if it never was."""
        key = digest({"stage": kind, **spec})
        return self.find(kind, key) or self.compute(kind, key, spec, function)

    def _not_kept(self, kind: str, error: OSError) -> UserError:
        return UserError(
            f"cannot keep the stage '{kind}' under {self.root.parent}: {error.strerror or error}",
            FREE,
        )

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def _make_room(self, parent: Path) -> None:
        """The folder that outputs lie in; what else stands in its way, below the root, is damage and goes."""
        for place in (*reversed(parent.parents), parent):
            if place.is_relative_to(self.root) and os.path.lexists(place) and not is_folder(place):
                self._say(place, "it is no folder")
                integrity.remove(place)
        parent.mkdir(parents=True, exist_ok=True)

    def _read(self, kind: str, key: str, whole: bool = True) -> Output | None:
        folder = self._folder(kind, key)
        if not os.path.lexists(folder):
            return None
        try:
            found = Output(key, folder, _read_notes(folder, kind, key))
            for name in found if whole else ():
                found.check(name)
            _note_use(folder)
            return found
        except _UNREADABLE as error:
            self._say(folder, str(error) or type(error).__name__)
            return None

    def _say(self, place: Path, why: str) -> None:
        """Once: a plan asks for the same output several times."""
        if place not in self._said:
            self._said.add(place)
            logger.warning("%s is damaged (%s); it is computed anew", place, why)

    def _publish(self, temporary: Path, folder: Path) -> None:
        """Rename; what is damaged there gives way, and what is whole stays."""
        for _ in range(2):
            try:
                temporary.rename(folder)
                integrity.sync(folder.parent)
                return
            except OSError:
                if not os.path.lexists(folder):
                    raise
                if self._read(folder.parent.parent.name, folder.name) is not None:
                    return  # Another worker has published the same.
                damaged = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.damaged.tmp")
                folder.rename(damaged)
                integrity.remove(damaged)
                self._said.discard(folder)

    # At a URL each output is one archive --------------------------------------------------------------------------

    def _place(self, kind: str, key: str) -> tuple[Any, str]:
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(f"{self.url}/{kind}/{key}.zip")
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open {self.url}: {error}", "For S3:  pip install 'ppfr-bench[s3]'") from error
        return system, path

    def _share(self, kind: str, key: str, found: Output) -> Output | None:
        """A copy that the folder has, once it lies at the URL too, where others look for it; None if it is damaged."""
        if not self._is_there(*self._place(kind, key)):
            if self._read(kind, key) is None:
                return None
            self._upload(kind, key, found.folder)
        self._shared.add(key)
        return found

    def _is_there(self, system: Any, path: str) -> bool:
        try:
            return bool(system.exists(path))
        except Exception as error:  # A file system raises errors of its own.
            raise UserError(f"cannot read {self.url}: {error}", "Check the URL and its credentials.") from error

    def _upload(self, kind: str, key: str, folder: Path) -> None:
        """Publish a folder; what lies there was not found, so it is damaged or the same."""
        system, path = self._place(kind, key)
        archive = folder.with_name(f"{key}.{uuid.uuid4().hex[:12]}.zip.tmp")
        try:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
                for file in sorted(folder.iterdir()):
                    opened.write(file, file.name)
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(archive), f"{path}.{archive.name}")  # No reader ever sees half of it.
            system.mv(f"{path}.{archive.name}", path)
            self._shared.add(key)
        except Exception as error:  # A file system raises errors of its own.
            raise UserError(f"cannot write {self.url}: {error}", "Check the URL and its credentials.") from error
        finally:
            archive.unlink(missing_ok=True)

    def _download(self, kind: str, key: str) -> bool:
        system, path = self._place(kind, key)
        folder = self._folder(kind, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f"{key}.{uuid.uuid4().hex[:12]}.tmp")
        archive = temporary.with_suffix(".zip.tmp")
        try:
            if not self._is_there(system, path):
                return False
            try:
                system.get_file(path, str(archive))
            except FileNotFoundError:
                return False
            except Exception as error:  # A file system raises errors of its own.
                raise UserError(f"cannot read {self.url}: {error}", "Check the URL and its credentials.") from error
            temporary.mkdir()
            try:
                with zipfile.ZipFile(archive) as opened:
                    for member in opened.infolist():
                        if Path(member.filename).name == member.filename:  # Nothing is written beside the folder.
                            opened.extract(member, temporary)
            except _DAMAGED:
                return False  # It is computed anew.
            self._publish(temporary, folder)
            self._shared.add(key)
            return True
        finally:
            archive.unlink(missing_ok=True)
            integrity.remove(temporary)


def _seal(folder: Path, meta: dict[str, Any]) -> None:
    """Write the notes with all hashes, and wait until everything is on the disk."""
    meta["files"] = {path.stem: integrity.file_sha256_once(path) for path in sorted(folder.glob("*.npy"))}
    meta = json.loads(json.dumps(meta, allow_nan=False))  # As it will be read: a tuple is a list then.
    text = json.dumps(meta | {"sha256": _hash_of(meta)})
    (folder / NOTES).write_text(text, encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        integrity.sync(path)


def _read_notes(folder: Path, kind: str, key: str) -> dict[str, Any]:
    """Raises:
    OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError: they are not what was published there.
    """
    if not is_file(folder / NOTES):  # A pipe may never end.
        raise ValueError("it has no notes")
    meta: dict[str, Any] = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    if not meta.keys() >= _NOTED:
        raise ValueError(f"its notes lack {', '.join(sorted(_NOTED - meta.keys()))}")
    if (meta["kind"], meta["key"]) != (kind, key):
        raise ValueError("it is the output of another stage")
    if _hash_of({name: value for name, value in meta.items() if name != "sha256"}) != meta["sha256"]:
        raise ValueError("its notes have another hash")
    return meta


def _note_use(folder: Path) -> None:
    """The time of its notes says when an output was used; a cache that can only be read keeps no account of it."""
    with suppress(OSError):
        os.utime(folder / NOTES)


def _hash_of(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed processes of this machine have left unfinished."""
    for leftover in folder.parent.glob(f"{folder.name}.*.damaged.tmp"):
        integrity.remove(leftover)
    for leftover in folder.parent.glob(f"{folder.name}.{platform.node()}.*.tmp"):
        process = leftover.name.split(".")[-2]
        if process.isdigit() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            integrity.remove(leftover)


def peak_memory_mib() -> float:
    """The highest resident size of this process so far, in MiB."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / (1 << 20), 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
