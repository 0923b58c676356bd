"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run side by side, and so do the processes that they start: a thread that waits leaves its processor to others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of stages, data sets and embeddings that starts empty, over the assets already fetched."""
    from ppfr_bench.assets import cache_dir

    root = tmp_path_factory.mktemp("cache")
    (cache_dir() / "assets").mkdir(parents=True, exist_ok=True)
    (root / "assets").symlink_to(cache_dir() / "assets")
    return root


@pytest.fixture(scope="session")
def command_environment(fresh_cache: Path) -> dict[str, str]:
    """The environment of a command, with the fresh cache; runs are of one process, which starts in half the time."""
    return os.environ | {"PPFR_BENCH_CACHE": str(fresh_cache), "COLUMNS": "200", "PPFR_BENCH_SCHEDULER": "inline"}


@pytest.fixture(scope="session")
def worker_environment(command_environment: dict[str, str]) -> dict[str, str]:
    """The same with runs on workers, as a user has them without a word."""
    return command_environment | {"PPFR_BENCH_SCHEDULER": ""}
