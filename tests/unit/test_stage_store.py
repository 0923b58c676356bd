"""Stages: computed once, whole or not at all, whoever asks."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ppfr_bench.runner.cache import StageCache, StageWriter

from ppfr_bench.errors import UserError


def _count(folder: Path) -> None:
    with (folder / "count").open("a") as file:
        file.write("x")


def test_computed_once_and_keyed_by_the_whole_spec(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "cache")

    def compute(writer: StageWriter) -> None:
        _count(tmp_path)
        writer.save("values", np.arange(3))

    for spec in ({"a": 1}, {"a": 1}, {"a": 1, "b": 0}):
        assert cache.get("stage", spec, compute)["values"].tolist() == [0, 1, 2]
    assert (tmp_path / "count").read_text() == "xx"


def test_a_stage_that_raises_leaves_nothing(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)

    def broken(writer: StageWriter) -> None:
        writer.save("values", np.arange(3))
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        cache.get("stage", {}, broken)
    assert not list(tmp_path.rglob("*.npy"))
    assert cache.get("stage", {}, lambda writer: writer.save("values", np.ones(1)))["values"] == [1]


def _compute_slowly(root: Path, die: bool) -> None:
    def compute(writer: StageWriter) -> None:
        _count(root)
        writer.save("values", np.arange(3))
        if die:
            os.kill(os.getpid(), signal.SIGKILL)

    StageCache(root / "cache").get("stage", {}, compute)


def test_killed_half_way_the_next_process_finishes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for die in (True, False):
        process = context.Process(target=_compute_slowly, args=(tmp_path, die))
        process.start()
        process.join()
    assert (tmp_path / "count").read_text() == "xx"
    stage = StageCache(tmp_path / "cache").get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert stage["values"].tolist() == [0, 1, 2]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_two_processes_compute_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_compute_slowly, args=(tmp_path, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "x"


def test_no_room_is_said(tmp_path: Path) -> None:
    def full(writer: StageWriter) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device\n.*PPFR_BENCH_CACHE"):
        StageCache(tmp_path).get("stage", {}, full)
