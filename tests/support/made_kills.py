"""Kills between any two changes of files, and processes that change them at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ppfr_bench.records.record import Record
from ppfr_bench.records.storage import Storage
from ppfr_bench.records.store import ResultStore

Act = Callable[[ResultStore], object]


class Killed(BaseException):
    """No handler of errors catches it, as none catches a kill."""


def kills(root: str, monkeypatch: pytest.MonkeyPatch, made_by: Callable[[str], object], act: Act) -> Iterator[str]:
    """The root after a kill before, within and after each write, and before and after each removal, one by one.

    A number follows ``root`` in its name: each begins anew, as ``made_by`` makes it.
    """
    kind = type(ResultStore(root).files)
    write, remove = kind.write, kind.remove
    for moment in range(1000):
        here = f"{root}-{moment}"
        made_by(here)
        left = moment

        def step() -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        def killed_write(self: Storage, path: str, content: bytes) -> None:
            step()
            if "://" not in root:
                target = Path(str(self.root)) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                half = target.with_name(f".{target.name}.1.tmp")
                half.write_bytes(content[: len(content) // 2])
                step()
                half.unlink()
            write(self, path, content)
            step()

        def killed_remove(self: Storage, path: str) -> None:
            step()
            remove(self, path)
            step()

        with monkeypatch.context() as patch:
            patch.setattr(kind, "write", killed_write)
            patch.setattr(kind, "remove", killed_remove)
            try:
                act(ResultStore(here))
            except Killed:
                pass
            else:
                assert moment > 20, "there was enough to kill"
                return
        yield here


def by_key(records: Iterable[Record]) -> dict[str, Record]:
    """Each record, none of them twice."""
    found = list(records)
    assert len({record.key for record in found}) == len(found)
    return {record.key: record for record in found}


def contents(files: Storage, folder: str = "quick") -> dict[str, bytes]:
    """All files below a folder, but a lock."""
    found: dict[str, bytes] = {}
    for entry in files.entries(folder):
        path = f"{folder}/{entry.name}"
        if entry.is_folder:
            found |= contents(files, path)
        elif entry.name != ".lock":
            found[path] = files.read(path) or b""
    return found


_WRITER = """
import made_records as made
from ppfr_bench.records.store import ResultStore
store, name = ResultStore(sys.argv[1]), sys.argv[2]
for i in range(12):
    picture = made.strip(i, "clear")
    draws = {"lpips": [0.2, 0.3]}
    store.write(made.appearance(name, f"attack_{i}", {"lpips": 0.3}, draws=draws, samples=picture), picture)
    store.write(made.appearance("shared", f"{name}_{i}", {"lpips": 0.3}, draws=draws))
    if i % 3 == 2:
        store.compact("quick")
"""


def write_at_once(root: str) -> None:
    """Three processes write and fold at once, and a fourth reads: what it has seen once is always there."""
    names = ("one", "two", "three")
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}){_WRITER}"
    running = [
        subprocess.Popen([sys.executable, "-c", script, root, name], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    seen: set[str] = set()
    store = ResultStore(root)
    while any(process.poll() is None for process in running):
        now = set(by_key(store.records("quick"))) if store.suites() else set()
        assert seen <= now
        seen = now
    for process in running:
        _, told = process.communicate()
        assert process.returncode == 0, told
    store.compact("quick")
    records = by_key(ResultStore(root).records("quick"))
    assert len(records) == 3 * 24
    assert all((store.strip(record) is not None) == bool(record.samples) for record in records.values())
