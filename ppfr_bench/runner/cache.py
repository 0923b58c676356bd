"""Content-addressed stages on disk: computed once for one key, whichever cell or process asks first."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ppfr_bench.errors import UserError
from ppfr_bench.results import canonical_json, digest

_FORMAT = 2  # of what a stage notes; raised, older stages are computed anew


class StageWriter:
    """Where a stage puts what it computes: arrays (streamed, if they are large) and a small ``meta``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = {}

    def open(self, name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """A memory-mapped array to fill piece by piece."""
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", shape=shape, dtype=dtype)

    def save(self, name: str, array: npt.NDArray[Any]) -> None:
        np.save(self.folder / f"{name}.npy", array, allow_pickle=False)


@dataclass(frozen=True)
class Stage:
    """A finished stage: its arrays (memory-mapped on access) and what was noted with them."""

    key: str
    folder: Path
    meta: dict[str, Any]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        path = self.folder / f"{name}.npy"
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 20 else None)
        return array

    @property
    def seconds(self) -> float:
        """What it took when it was computed."""
        return float(self.meta["seconds"])


@dataclass
class StageCache:
    """Stages below one folder; ``used`` lists those a cell touched, in order."""

    root: Path
    used: dict[str, Stage] = field(default_factory=dict)
    _inner: list[tuple[float, list[tuple[str, str]]]] = field(default_factory=list)  # of the stages being computed

    def get(self, kind: str, spec: dict[str, Any], compute: Callable[[StageWriter], None]) -> Stage:
        """The stage of a spec, computed now if it never was.

        Stages that ``compute`` asks for are noted with it, and their seconds are not counted as its own.
        """
        key = digest({"stage": kind, "format": _FORMAT, **spec})
        folder = self._folder(kind, key)
        start = time.perf_counter()
        try:
            if not (folder / "meta.json").is_file():
                folder.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{folder}.lock"):
                    if not (folder / "meta.json").is_file():
                        self._compute(folder, spec, compute)
        except OSError as error:
            raise UserError(
                f"cannot keep the stage '{kind}' under {self.root}: {error.strerror or error}",
                "Free some space, or choose another folder:  PPFR_BENCH_CACHE=DIR",
            ) from error
        if self._inner:
            seconds, stages = self._inner[-1]
            self._inner[-1] = (seconds + time.perf_counter() - start, [*stages, (kind, key)])
        return self._use(kind, key)

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key

    def _use(self, kind: str, key: str) -> Stage:
        """A finished stage, noted as used with those it was built on."""
        folder = self._folder(kind, key)
        stage = Stage(key, folder, json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        for inner in stage.meta["built_on"]:
            if (self._folder(*inner) / "meta.json").is_file():
                self._use(*inner)
        self.used[key] = stage
        return stage

    def _compute(self, folder: Path, spec: dict[str, Any], compute: Callable[[StageWriter], None]) -> None:
        for leftover in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)  # the lock is ours, so whoever made it is gone
        temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        temporary.mkdir()
        try:
            writer = StageWriter(temporary)
            start = time.perf_counter()
            self._inner.append((0.0, []))
            try:
                compute(writer)
            finally:
                inside, built_on = self._inner.pop()
            writer.meta |= {
                "seconds": round(time.perf_counter() - start - inside, 3),
                "peak_memory_mib": peak_memory_mib(),
                "built_on": built_on,
            }
            writer.meta["spec"] = json.loads(canonical_json(spec))
            (temporary / "meta.json").write_text(json.dumps(writer.meta, allow_nan=False), encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def peak_memory_mib() -> float:
    """The highest resident size of this process so far, in MiB."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / (1 << 20), 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
