"""Outputs of stages, by key: a folder that workers share, or a URL with a copy of what was read in a local folder.

An output is published by renaming a finished folder, or by one upload: it is whole or absent. Who comes second finds
that the first has published the same, as one key has one content.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import canonical_json, digest

FORMAT = "3"  # Each format of the store has a folder of its own.
_MAPPED = 1 << 20  # An array is memory-mapped from so many bytes on.
_NOTED = {"files", "peak_memory_mib", "seconds", "spec"}  # The note of every output has these keys.
# What zipfile and numpy raise on a damaged archive: NotImplementedError where its header names a compression that does
# not exist, RuntimeError where it says encrypted.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class Writer:
    """Where a stage puts what it computes: arrays (streamed, if they are large) and a small ``meta``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = {}

    def open(self, name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """A memory-mapped array to fill piece by piece."""
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", shape=shape, dtype=dtype)

    def save(self, name: str, array: npt.NDArray[Any]) -> None:
        """Keep an array."""
        np.save(self.folder / f"{name}.npy", array, allow_pickle=False)


@dataclass(frozen=True)
class Output(Mapping[str, npt.NDArray[Any]]):
    """What a stage has computed: its arrays by name, memory-mapped on access, and what was noted with them."""

    key: str
    folder: Path
    meta: dict[str, Any]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self.meta["files"]:
            raise KeyError(name)
        path = self.folder / f"{name}.npy"
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED else None)
        return array

    def __iter__(self) -> Any:
        return iter(self.meta["files"])

    def __len__(self) -> int:
        return len(self.meta["files"])

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

    def find(self, kind: str, key: str) -> Output | None:
        """The output of a stage; None if it was never computed, or is damaged and has to be computed anew.

        Raises:
            UserError: the URL cannot be read, or its copies cannot be kept in the folder.
        """
        found = self._read(kind, key)
        if found is None and self.url:
            try:
                if self._download(kind, key):
                    found = self._read(kind, key)
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
            folder.parent.mkdir(parents=True, exist_ok=True)
            _clear_leftovers(folder)
            temporary.mkdir()
            writer, start = Writer(temporary), time.perf_counter()
            function(writer)
            files = {path.stem: path.stat().st_size for path in sorted(temporary.glob("*.npy"))}
            writer.meta |= {
                "seconds": round(time.perf_counter() - start, 3), "peak_memory_mib": peak_memory_mib(),
                "files": files, "spec": json.loads(canonical_json(spec)), "pid": os.getpid(),
            }  # fmt: skip
            (temporary / "meta.json").write_text(json.dumps(writer.meta, allow_nan=False), encoding="utf-8")
            self._publish(temporary, folder)
        except OSError as error:
            raise self._not_kept(kind, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if self.url:
            self._upload(kind, key, folder)
        found = self._read(kind, key)
        assert found is not None, "it has just been published"
        return found

    def get(self, kind: str, spec: Mapping[str, Any], function: Callable[[Writer], None]) -> Output:
        """The output of a stage without upstream stages, computed now if it never was."""
        key = digest({"stage": kind, **spec})
        return self.find(kind, key) or self.compute(kind, key, spec, function)

    def _not_kept(self, kind: str, error: OSError) -> UserError:
        return UserError(
            f"cannot keep the stage '{kind}' under {self.root.parent}: {error.strerror or error}",
            "Free some space, or choose another folder:  PPFR_BENCH_CACHE=DIR",
        )

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def _read(self, kind: str, key: str) -> Output | None:
        folder = self._folder(kind, key)
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            whole = all((folder / f"{name}.npy").stat().st_size == size for name, size in meta["files"].items())
            if whole and meta.keys() >= _NOTED:
                float(meta["seconds"])
                return Output(key, folder, meta)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # It is not there, or damaged.
        return None

    def _publish(self, temporary: Path, folder: Path) -> None:
        """Rename; what is damaged there gives way, and what is whole stays."""
        for _ in range(2):
            try:
                temporary.rename(folder)
                return
            except OSError:
                if not folder.exists():
                    raise
                if self._read(folder.parent.parent.name, folder.name) is not None:
                    return  # Another worker has published the same.
                damaged = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.damaged.tmp")
                folder.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)

    # At a URL each output is one archive --------------------------------------------------------------------------

    def _place(self, kind: str, key: str) -> tuple[Any, str]:
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(f"{self.url}/{kind}/{key}.zip")
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open {self.url}: {error}", "For S3:  pip install 'ppfr-bench[s3]'") from error
        return system, path

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
            try:
                if not system.exists(path):
                    return False
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
            return True
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed processes of this machine have left unfinished."""
    for leftover in folder.parent.glob(f"{folder.name}.{platform.node()}.*.tmp"):
        process = leftover.name.split(".")[-2]
        if process.isdigit() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            shutil.rmtree(leftover, ignore_errors=True)


def peak_memory_mib() -> float:
    """The highest resident size of this process so far, in MiB."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / (1 << 20), 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
