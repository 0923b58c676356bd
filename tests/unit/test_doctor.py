"""The doctor finds what is here and what is not, and says what to type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ppfr_bench import doctor


@pytest.fixture(autouse=True)
def _quick_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of torch comes at once; the tests that run the command ask torch itself."""
    monkeypatch.setattr(doctor, "_ASK_TORCH", 'print(\'["2.0", 2, true, ""]\')')


def by_name(found: list[doctor.Checked]) -> dict[str, doctor.Checked]:
    return {one.what: one for one in found}


def test_what_is_missing_comes_with_what_to_type() -> None:
    for one in doctor.examine():
        assert one.state != "missing" or one.hint, one
        assert one.found


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "dlib", ("no_such_module",))
    found = doctor.examine()
    assert by_name(found)["extra dlib"].state == "missing"
    assert by_name(found)["extra dlib"].hint == "pip install 'ppfr-bench[dlib]'"
    assert not doctor.healthy(found)


def test_an_extra_that_nothing_shipped_needs_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.OPTIONAL, "rec", ("no_such_package.inside",))
    found = by_name(doctor.examine())["extra rec"]
    assert (found.state, found.hint) == ("note", "pip install 'ppfr-bench[rec]'")


def test_every_extra_is_known() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*doctor.EXTRAS, *doctor.OPTIONAL, "recognizers", "docs", "test"}
    assert set(project["optional-dependencies"]) == known


def test_npm_that_is_not_on_the_path_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert by_name(doctor.examine())["npm"].state == "missing"


def test_an_empty_cache_has_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "not" / "yet"))
    found = by_name(doctor.examine())
    assert found["cache"].state == "ok" and found["weights faceplugin"].state == "missing"
    assert not (tmp_path / "not").exists()


def test_a_data_set_is_where_its_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PPFR_BENCH_LFW", str(tmp_path))
    assert by_name(doctor.examine())["data lfw"].state == "ok"
    monkeypatch.setenv("PPFR_BENCH_LFW", str(tmp_path / "none"))
    assert "no folder" in by_name(doctor.examine())["data lfw"].found


def test_the_command_exits_1_where_something_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ppfr_bench.cli", "doctor", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PPFR_BENCH_CACHE": str(tmp_path)}
    )
    assert done.returncode == 1 and not done.stderr
    assert {one["what"] for one in json.loads(done.stdout)} >= {"torch", "npm", "cache", "weights dlib_resnet"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libgomp.so.1: <b>no such file')", "libgomp.so.1: <b>no such file"),
        ("import os; os.kill(os.getpid(), 4)", "-4"),
    ],
)
def test_a_torch_that_does_not_load_is_reported_and_the_rest_is_examined(
    monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", code)
    found = by_name(doctor.examine())
    assert found["torch"].state == "missing" and said in found["torch"].found and found["torch"].hint
    assert "cache" in found and not doctor.healthy(list(found.values()))


def test_a_file_of_the_folder_that_one_stands_in_is_not_taken_for_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('not torch')")
    command = [sys.executable, "-P", "-m", "ppfr_bench.cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert next(one for one in json.loads(done.stdout) if one["what"] == "torch")["state"] == "ok"
