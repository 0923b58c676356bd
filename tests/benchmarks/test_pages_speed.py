"""2,000 records, read and published in processes of their own: seconds, and the memory that it took."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytestmark = pytest.mark.slow
DEFENSES, ATTACKS = 50, 39  # and one recognizer: 2,000 records
PEAK = """
import re, sys
from pathlib import Path
{work}
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)  # not its parent's
"""
PUBLISH = """
from ppfr_bench.leaderboard.pages import publish
publish(Path(sys.argv[1]), "quick", Path(sys.argv[2]))
"""
READ = """
from ppfr_bench.records.store import ResultStore
assert len(list(ResultStore(sys.argv[1]).records("quick"))) == 2000
"""
STATUSES = """
from ppfr_bench.records.store import ResultStore
assert len(ResultStore(sys.argv[1]).statuses("quick")) == 2000
"""
LIMITS = {"read": 300, "statuses": 150}  # MiB


def records() -> Iterator[Record]:
    for i in range(DEFENSES):
        yield made.utility(f"defense_{i}", "dlib_resnet", 0.5, draws=made.around(0.5, 0.02, i))
        for j in range(ATTACKS):
            leaked = {"lpips": 0.3, "ssim": 0.2, "ms_ssim": 0.4}
            log = {"steps": 100, "validation": [[step, 0.2 - 0.001 * step] for step in range(0, 101, 12)]}
            yield made.appearance(
                f"defense_{i}", f"attack_{j}", dict(leaked), attack_config={"steps": 100}, log=log,
                draws={name: made.around(value, 0.02, 100 * i + j) for name, value in leaked.items()},
            )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with them, folded."""
    root = tmp_path_factory.mktemp("results")
    store, found = ResultStore(root), list(records())
    for record in found:
        store.write(record)
    store.compact("quick")
    store.write_plan(made.plan_of(found))
    return root


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same while the run goes on: none is folded yet."""
    root = tmp_path_factory.mktemp("cells")
    store = ResultStore(root)
    for record in records():
        store.write(record)
    return root


def measure(benchmark: Any, work: str, *arguments: object) -> float:
    """Seconds go to the benchmark; the peak of its memory in MiB."""
    command = [sys.executable, "-c", PEAK.format(work=work), *map(str, arguments)]
    done = benchmark.pedantic(subprocess.run, (command,), {"capture_output": True, "check": True}, rounds=2)
    benchmark.extra_info["peak_memory_mib"] = float(done.stdout)
    return float(done.stdout)


def test_publishing_two_thousand_records(benchmark: Any, results: Path, tmp_path: Path) -> None:
    measure(benchmark, PUBLISH, results, tmp_path / "out")


@pytest.mark.parametrize("folder", ["results", "cells"])
@pytest.mark.parametrize(("what", "work"), [("read", READ), ("statuses", STATUSES)])
def test_reading_two_thousand_records(
    benchmark: Any, what: str, work: str, folder: str, request: pytest.FixtureRequest
) -> None:
    assert measure(benchmark, work, request.getfixturevalue(folder)) < LIMITS[what]


def test_folding_two_thousand_records(benchmark: Any, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")

    def write() -> None:
        for record in records():
            store.write(record)

    benchmark.pedantic(store.compact, ("quick",), setup=write, rounds=2)
