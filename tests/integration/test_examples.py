"""Every example runs as it stands, and what it shows is what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import warm_python
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="no checkout: no examples"),
]


def run(name: str, folder: Path, env: dict[str, str], *arguments: str) -> str:
    done = warm_python.run([EXAMPLES / name, *arguments], env, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_callable_is_evaluated(tmp_path: Path, command_environment: dict[str, str]) -> None:
    shown = run("evaluate_a_callable.py", tmp_path, command_environment)
    assert "coarse_and_noisy in smoke: score" in shown and "complete" in shown
    assert re.search(r"\bno_defense +\S+ +1\.0", shown), "no defense keeps everything"


def test_a_folder_is_judged(tmp_path: Path, command_environment: dict[str, str]) -> None:
    shown = run("judge_a_folder.py", tmp_path, command_environment)
    (kept,) = re.findall(r"utility +faceplugin +retention +(-?[\d.]+)", shown)
    (leaked,) = re.findall(r"attack +visual +leakage_lpips +([\d.]+)", shown)
    assert float(kept) < 1 and float(leaked) < 1


def test_a_trade_off_is_plotted(tmp_path: Path, command_environment: dict[str, str]) -> None:
    shown = run("plot_a_trade_off.py", tmp_path, command_environment, "plot.png")
    blocks, kept, regained = (eval(part) for part in re.findall(r"\[[^]]*\]", shown))
    assert blocks == [8, 16, 37]
    assert kept[0] > kept[-1] and regained[0] > regained[-1], "a coarser mosaic keeps less and leaks less"
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size[0] > 500


def test_the_notebook_runs(command_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in command_environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    ).execute()
    pages = [output["data"].get("text/html", "") for cell in notebook.cells for output in cell.get("outputs", [])
             if "data" in output]  # fmt: skip
    assert any("mosaic in smoke" in page and "<table" in page for page in pages)
