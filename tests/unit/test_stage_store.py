"""Stages: computed once, whole or not at all, whoever asks."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from ppfr_bench.errors import UserError
from ppfr_bench.stages.store import StageStore, Writer


def _count(folder: Path) -> None:
    with (folder / "count").open("a") as file:
        file.write("x")


def test_computed_once_and_keyed_by_the_whole_spec(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "cache")

    def compute(writer: Writer) -> None:
        _count(tmp_path)
        writer.save("values", np.arange(3))

    for spec in ({"a": 1}, {"a": 1}, {"a": 1, "b": 0}):
        assert store.get("stage", spec, compute)["values"].tolist() == [0, 1, 2]
    assert (tmp_path / "count").read_text() == "xx"


def test_a_stage_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = StageStore(tmp_path)

    def broken(writer: Writer) -> None:
        writer.save("values", np.arange(3))
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        store.get("stage", {}, broken)
    assert not list(tmp_path.rglob("*.npy"))
    assert store.get("stage", {}, lambda writer: writer.save("values", np.ones(1)))["values"] == [1]


def _compute_slowly(root: Path, die: bool) -> None:
    def compute(writer: Writer) -> None:
        _count(root)
        writer.save("values", np.arange(3))
        if die:
            os.kill(os.getpid(), signal.SIGKILL)

    StageStore(root / "cache").get("stage", {}, compute)


def test_killed_half_way_the_next_process_finishes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for die in (True, False):
        process = context.Process(target=_compute_slowly, args=(tmp_path, die))
        process.start()
        process.join()
    assert (tmp_path / "count").read_text() == "xx"
    stage = StageStore(tmp_path / "cache").get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert stage["values"].tolist() == [0, 1, 2]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_who_comes_second_finds_what_the_first_has_published(tmp_path: Path) -> None:
    """Two processes that compute one stage at once end with one output, whole."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_compute_slowly, args=(tmp_path, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    stage = StageStore(tmp_path / "cache").get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert stage["values"].tolist() == [0, 1, 2]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def three(writer: Writer) -> None:
    writer.save("values", np.arange(3))
    writer.meta["note"] = 1


def spoilt(how: str, folder: Path) -> None:
    """Damage an output in one of the ways that happen."""
    meta, array = folder / "meta.json", folder / "values.npy"
    match how:
        case "truncated":
            array.write_bytes(array.read_bytes()[:-5])
        case "an array is gone":
            array.unlink()
        case "its notes are gone":
            meta.unlink()
        case "its notes are cut":
            meta.write_text(meta.read_text()[:-4])
        case "its notes are another's":
            meta.write_text("[1]")
        case "its notes lack a key":
            meta.write_text('{"seconds": 1}')


@pytest.mark.parametrize(
    "how",
    ["truncated", "an array is gone", "its notes are gone", "its notes are cut", "its notes are another's",
     "its notes lack a key"],
)  # fmt: skip
def test_what_is_damaged_is_computed_anew(how: str, tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    first = store.get("stage", {}, three)
    spoilt(how, first.folder)
    assert store.find("stage", first.key) is None
    again = store.get("stage", {}, three)
    assert again["values"].tolist() == [0, 1, 2] and again.meta["note"] == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_behind_a_url_another_machine_reads_what_one_has_computed(scheme: str, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared" if scheme == "file" else f"memory://{tmp_path.name}/shared"
    one, two = (StageStore(tmp_path / name, url) for name in ("one", "two"))
    key = one.get("stage", {"a": 1}, three).key
    found = two.find("stage", key)
    assert found is not None and found["values"].tolist() == [0, 1, 2] and found.folder.is_relative_to(tmp_path / "two")
    assert two.find("stage", "0" * 64) is None


def test_a_damaged_archive_at_a_url_is_computed_anew(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    key = StageStore(tmp_path / "one", url).get("stage", {}, three).key
    (archive,) = (tmp_path / "shared").rglob("*.zip")
    archive.write_bytes(archive.read_bytes()[:40])
    two = StageStore(tmp_path / "two", url)
    assert two.find("stage", key) is None
    assert two.get("stage", {}, three)["values"].tolist() == [0, 1, 2]


def test_no_room_is_said(tmp_path: Path) -> None:
    def full(writer: Writer) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device\n.*PPFR_BENCH_CACHE"):
        StageStore(tmp_path).get("stage", {}, full)
