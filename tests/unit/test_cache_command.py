"""``ppfr-bench cache``: what was not used for long goes first, and comes back when it is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ppfr_bench.cli import app
from ppfr_bench.errors import UserError
from ppfr_bench.stages.pruning import kept_outputs
from ppfr_bench.stages.store import NOTES, Output, StageStore, Writer

HOUR = 3600


def _compute(writer: Writer) -> None:
    writer.save("values", np.zeros(100_000, np.uint8))


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Output]:
    """Three outputs that were used three, two and one hours ago, of about 0.1 MB each."""
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))
    found = []
    for number, store in enumerate(("stages", "stages", "stages-of-trusted-files")):
        output = StageStore(tmp_path / store).get("release", {"number": number}, _compute)
        for path in output.folder.iterdir():
            ago = path.stat().st_mtime - (3 - number) * HOUR
            os.utime(path, (ago, ago))
        found.append(output)
    return found


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, ["cache", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_cache_is_listed_with_its_sizes(outputs: list[Output], tmp_path: Path) -> None:
    (tmp_path / "embeddings-2.sqlite").write_bytes(bytes(5000))
    found = json.loads(_run("list", "--json"))
    assert found["folder"] == str(tmp_path)
    assert found["free"] > 0
    assert found["contents"]["embeddings-2.sqlite"] == 5000
    kept = {one.folder: one.size for one in kept_outputs()}
    assert found["contents"]["stages"] == kept[outputs[0].folder] + kept[outputs[1].folder] > 200_000
    assert "ppfr-bench cache prune --keep 10" in _run("list")


def test_what_was_not_used_for_long_goes_first(outputs: list[Output], tmp_path: Path) -> None:
    assert StageStore(tmp_path / "stages").find("release", outputs[0].key) is not None  # It is used now.
    sizes = [one.size for one in kept_outputs()]
    found = json.loads(_run("prune", "--keep", str(0.00025), "--json"))
    assert found == {"removed": 1, "bytes": sizes[0]}
    assert [output.folder.exists() for output in outputs] == [True, False, True]
    assert json.loads(_run("prune", "--keep", str(0.00025), "--json")) == {"removed": 0, "bytes": 0}


def test_nothing_stays_if_nothing_is_kept_and_it_is_computed_anew(outputs: list[Output], tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "weights").write_bytes(bytes(10))
    assert "3 outputs removed" in _run("prune", "--keep", "0")
    assert kept_outputs() == []
    assert (tmp_path / "assets" / "weights").exists()
    again = StageStore(tmp_path / "stages").get("release", {"number": 0}, _compute)
    assert (again.folder / NOTES).exists()


def test_leftovers_of_a_killed_run_go_too(outputs: list[Output]) -> None:
    left = outputs[0].folder.with_name("key.host.12.tmp")
    left.mkdir()
    (left / "values.npy").write_bytes(bytes(10))
    _run("prune", "--keep", "0")
    assert not left.exists()


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "none"))
    assert json.loads(_run("list", "--json"))["contents"] == {}
    assert "0 outputs removed" in _run("prune", "--keep", "1")


def test_less_than_nothing_cannot_be_kept() -> None:
    assert CliRunner().invoke(app, ["cache", "prune", "--keep", "-1"]).exit_code == 2


@pytest.mark.parametrize("keep", ["inf", "1e400", "1e305"])
def test_what_is_kept_is_a_finite_number(keep: str) -> None:
    done = CliRunner().invoke(app, ["cache", "prune", "--keep", keep])
    assert isinstance(done.exception, UserError) and "expected a number of gigabytes" in done.exception.message
