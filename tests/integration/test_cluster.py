"""A cluster of processes that were started elsewhere gives the records of a run in one process, whatever is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytestmark = pytest.mark.assets
Environment = dict[str, str]
# A cell of each kind, and few of them.
SMOKE = ["smoke", *(part for name in ("blackout", "stochastic_local") for part in ("--defense", name))]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def answering(port: int) -> bool:
    with socket.socket() as opened:
        return opened.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(*command: object, env: Environment, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own, ended with the block; with a port, entered once something answers there."""
    started = subprocess.Popen(
        [*map(str, command)], env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while port and not answering(port):
            assert started.poll() is None, "it ended before it answered"
            time.sleep(0.05)
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def run(*arguments: object, env: Environment) -> None:
    command = [sys.executable, "-m", "ppfr_bench.cli", "run", *SMOKE, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def numbers(results: str | Path) -> dict[str, object]:
    """All that a cell has measured, by key: not where and how fast."""

    def measured(record: Record) -> object:
        return record.status, record.metrics, record.flags, record.training, record.log, record.samples

    return {record.key: measured(record) for record in ResultStore(results).records("smoke")}


def empty_cache(root: Path, env: Environment) -> Environment:
    """The environment with a cache of its own, over the same weights and data sets."""
    root.mkdir()
    for part in ("assets", "datasets"):
        (root / part).symlink_to(Path(env["PPFR_BENCH_CACHE"]) / part)
    return env | {"PPFR_BENCH_CACHE": str(root)}


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory, command_environment: Environment) -> dict[str, object]:
    """Of rows of ``smoke``, one task after the other in one process."""
    results = tmp_path_factory.mktemp("inline") / "results"
    run("--scheduler", "inline", "--results", results, env=command_environment)
    return numbers(results)


@contextmanager
def cluster(env: Environment, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and its workers: their address, and the workers."""
    port = free_port()
    address, dask = f"tcp://127.0.0.1:{port}", [sys.executable, "-m", "dask"]
    quiet = ("--no-dashboard",)
    with process(*dask, "scheduler", "--host", "127.0.0.1", "--port", port, *quiet, env=env, port=port):
        one = [
            *dask,
            "worker",
            address,
            "--nthreads",
            1,
            "--no-dashboard",
            "--local-directory",
            env["PPFR_BENCH_CACHE"],
        ]
        with process(*one, env=env) as first, process(*one, env=env) as second:
            yield address, [first, second][:workers]


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    inline: dict[str, object], tmp_path: Path, command_environment: Environment
) -> None:
    env, results = empty_cache(tmp_path / "cache", command_environment), tmp_path / "results"
    with cluster(env) as (address, workers):
        command = [sys.executable, "-m", "ppfr_bench.cli", "run", *SMOKE, "--scheduler", address, "--results", results]
        with process(*command, env=env) as running:
            while running.poll() is None and len(list(results.rglob(".cells/*.json"))) < len(inline) // 3:
                time.sleep(0.05)
            assert running.poll() is None, "the run ended before a worker could be killed"
            os.killpg(workers[0].pid, signal.SIGKILL)
            assert running.wait() == 0
    assert numbers(results) == inline


def test_stages_and_records_behind_a_url_are_the_same(
    inline: dict[str, object], tmp_path: Path, command_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both workers see nothing of each other but what lies at the URL."""
    import boto3

    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}  # fmt: skip
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    env = empty_cache(tmp_path / "cache", command_environment | keys)
    with process(sys.executable, "-m", "moto.server", "-p", port, env=env, port=port):
        boto3.client("s3").create_bucket(Bucket="faces")
        where = ("--stages", "s3://faces/stages", "--results", "s3://faces/results")
        run("--workers", 2, *where, env=env)
        assert numbers("s3://faces/results") == inline
        again = empty_cache(tmp_path / "another machine", command_environment | keys)
        run("--scheduler", "inline", "--rerun", "all", *where, env=again)
        assert numbers("s3://faces/results") == inline
        kinds = {path.name for path in (tmp_path / "another machine/stages/copies").glob("*/*")}
        assert "attack" in kinds, "what was computed before is read from the URL"
