"""Whoever of a run is killed: nothing survives it, and the same command gives the same bytes."""

from __future__ import annotations

import sys

import pytest
from run_kills import Arena, Kill, kills

pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc"),
]
SAMPLE = [
    Kill("main", "SIGKILL", "starting"), Kill("main", "SIGTERM", "computing"), Kill("worker", "SIGKILL", "computing"),
    Kill("child", "SIGKILL", "writing"),
]  # fmt: skip


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory, command_environment: dict[str, str]) -> Arena:
    return Arena(tmp_path_factory.mktemp("kills"), command_environment)


@pytest.mark.parametrize("kill", SAMPLE, ids=str)
def test_a_killed_run_leaves_nothing_and_loses_nothing(arena: Arena, kill: Kill) -> None:
    assert arena.killed(kill, str(kill).replace(" ", "_")) == ""


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(4))
@pytest.mark.parametrize("kill", kills(), ids=str)
def test_a_hundred_kills(arena: Arena, kill: Kill, round_: int) -> None:
    assert arena.killed(kill, f"{kill}_{round_}".replace(" ", "_")) == ""
