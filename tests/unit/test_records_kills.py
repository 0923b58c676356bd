"""Whoever is killed while records are folded or moved loses none, and the next one ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import made_records as made
import pytest
from made_kills import Act, by_key, contents, kills, write_at_once

from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.records import storage
from ppfr_bench.records.store import CELLS, ResultStore

PICTURES = [made.strip(i, "clear") for i in range(4)]
BLUR = [
    made.appearance(
        "blur", f"attack_{i}", {"lpips": 0.2 + i / 10}, draws={"lpips": [0.2, 0.3 + i / 10]}, samples=picture
    )
    for i, picture in enumerate(PICTURES)
]
OTHERS = [made.utility(name, "dlib_resnet", 0.5, draws=[0.4, 0.6]) for name in ("blackout", "blur", "pixelate")]
AGAIN = made.appearance("blur", "attack_1", {"lpips": 0.9}, draws={"lpips": [0.8, 0.95]}, samples=PICTURES[0])
KEYS = [BLUR[0].key, OTHERS[0].key, OTHERS[1].key]


def begun(root: str) -> ResultStore:
    """Some records are published, some are not folded yet, and one was measured again."""
    store = ResultStore(root)
    for record, picture in zip(BLUR[:3], PICTURES[:3], strict=True):
        store.write(record, picture)
    store.write(OTHERS[0])
    store.compact("quick")
    store.write(BLUR[3], PICTURES[3])
    for record in OTHERS[1:]:
        store.write(record)
    store.write(AGAIN, PICTURES[0])
    return store


def compact(store: ResultStore) -> None:
    store.compact("quick")


def set_aside(store: ResultStore) -> object:
    return store.set_aside("quick", KEYS, "superseded")


def bring_back(store: ResultStore) -> object:
    return store.bring_back("quick", KEYS)


def aside_of(root: str) -> ResultStore:
    store = begun(root)
    set_aside(store)
    return store


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(storage, "STALE", 0.0)  # A lock at a URL outlives whoever was killed.
    monkeypatch.setattr(storage, "POLL", 0.0)
    return str(tmp_path / "results") if request.param == "folder" else f"memory://{tmp_path.name}/results"


def test_a_kill_while_records_are_folded(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begun(root)
    there = by_key(whole.records("quick"))
    assert there[AGAIN.key] == AGAIN and len(there) == 7
    compact(whole)
    assert by_key(whole.records("quick")) == there
    expected = contents(whole.files)
    for killed in kills(root, monkeypatch, begun, compact):
        store = ResultStore(killed)
        assert by_key(store.records("quick")) == there, killed
        assert store.statuses("quick") == dict.fromkeys(there, "ok")
        for record in there.values():
            assert store.find("quick", record.key) == record
            assert (store.strip(record) is not None) == bool(record.samples), (killed, record.title)
        compact(store)
        assert contents(store.files) == expected, killed


@pytest.mark.parametrize(("before", "act"), [(begun, set_aside), (aside_of, bring_back)])
def test_a_kill_while_records_are_moved(
    before: Callable[[str], ResultStore], act: Act, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = before(root)
    everywhere = {key: whole.find("quick", key) for key in whole.statuses("quick")}
    strips = {key: whole.strip(record) for key, record in everywhere.items() if record is not None}
    assert len(everywhere) == 7
    act(whole)
    expected = contents(whole.files)
    for killed in kills(root, monkeypatch, before, act):
        store = ResultStore(killed)
        assert {key: store.find("quick", key) for key in store.statuses("quick")} == everywhere, killed
        assert {key: store.strip(record) for key, record in everywhere.items() if record is not None} == strips, killed
        by_key(store.records("quick"))
        act(store)
        compact(store)
        assert contents(store.files) == expected, killed


def test_processes_that_write_and_fold_at_once_lose_nothing(tmp_path: Path) -> None:
    write_at_once(str(tmp_path))
    assert len(list((tmp_path / "quick/synthetic").glob("*.jsonl"))) == 4


def test_a_write_killed_half_way_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A process dies, by the kernel's hand, after half of the new content is on disk."""
    path = tmp_path / "r" / "file.json"
    write_atomic(path, b"old")
    script = f"""
import os, signal
from pathlib import Path
from ppfr_bench import files
def die(descriptor):
    assert Path({str(path)!r}).read_bytes() == b"old"
    os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = die
files.write_atomic(Path({str(path)!r}), b"new content")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 2, "the half-written file lies beside it under a temporary name"
    assert not list(path.parent.glob("*.json.tmp")) and list(path.parent.glob("*.json")) == [path]
    write_atomic(path, b"new content")
    assert path.read_bytes() == b"new content"


def test_what_a_killed_run_left_half_written_is_swept_by_the_next(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write(made.record("pixelate", "utility"))
    leftover = tmp_path / "quick" / CELLS / f".{'a' * 64}.jpg.1.tmp"
    leftover.write_bytes(b"half")
    store.compact("quick")
    assert not leftover.exists() and len(list(store.records("quick"))) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_explained_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    # The temporary name leads to a device that is always full: the error is the kernel's own.
    (tmp_path / f".file.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        write_atomic(path, b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []
