"""The parts of the package import each other in one direction only, as ``[tool.importlinter]`` of pyproject.toml says.

import-linter reads one tree of one package. So it gets a copy in which ``attacks`` and ``defenses`` lie inside
``ppfr_bench``, as they do in a wheel: what they import, and who imports them, is checked as well.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppfr_bench import registry

pytest.importorskip("importlinter", reason="needs import-linter:  pip install 'ppfr-bench[test]'")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="no checkout: no contracts")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# Plug-ins that a part of the package has to name.
NAMED = {
    "former_names.py": {"no_defense"},
    "suites/schema.py": {"blackout", "no_defense"},  # Every leakage lies between these two controls.
    "contracts/check.py": {"pixelate"},  # An attack is tried on this defense.
    "stages/template.py": {"random_projection"},  # An attack on templates is tried on this row.
}
# Words of the field that are names of plug-ins too: a folder of the cache, a kind of network, a track, six scorers.
WORDS = {
    "precomputed", "unet", "template", "linkage", "attributes", "soft_biometrics", "unlinkability", "recognition",
    "erasure",
}  # fmt: skip


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder that holds the contracts, and the package with its plug-ins inside it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ppfr_bench", tmp_path / "ppfr_bench", ignore=ignored)
    for name in ("attacks", "defenses"):
        shutil.copytree(ROOT / name, tmp_path / "ppfr_bench" / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("metrics/base.py", "import ppfr_bench.runner.plan", "its own layer or of the layers below"),
        ("new_part.py", "import os", "its own layer or of the layers below"),
        ("doctor.py", "from ppfr_bench import cli", "Nothing imports the command line"),
        ("leaderboard/table.py", "from ppfr_bench.stages import store", "The leaderboard reads records"),
        ("runner/plan.py", "from ppfr_bench.leaderboard import table", "What runs a suite never imports"),
        ("stages/store.py", "from ppfr_bench.scorers import linkage", "Stages never import scorers"),
        ("runner/plan.py", "from ppfr_bench.attacks.unet import ATTACK", "No part imports a plug-in"),
        ("attacks/unet.py", "from ppfr_bench.defenses import pixelate", "No part imports a plug-in"),
        ("attacks/unet.py", "from ppfr_bench.runner import plan", "Plug-ins import the API"),
        ("defenses/pixelate.py", "from ppfr_bench.evaluation import evaluate", "Plug-ins import the API"),
    ],
)
def test_an_import_in_the_wrong_direction_is_noticed(copy: Path, module: str, line: str, broken: str) -> None:
    with (copy / "ppfr_bench" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(broken in report and "BROKEN" in report for report in done.stdout.splitlines()), done.stdout


def test_the_pages_are_made_without_torch() -> None:
    code = """
import importlib, pkgutil, sys
import ppfr_bench.leaderboard as package
for module in pkgutil.walk_packages(package.__path__, "ppfr_bench.leaderboard."):
    importlib.import_module(module.name)
sys.exit("torch" in sys.modules and "torch was imported")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(path: Path, names: set[str]) -> set[str]:
    """Those of the names that stand in a string of a module, and every string that is a module of a plug-in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if text in names or text.startswith(("ppfr_bench.attacks.", "ppfr_bench.defenses."))}


def test_no_part_names_a_plugin() -> None:
    plugins = {path.stem for folder in ("attacks", "defenses") for path in (ROOT / folder).glob("[!_]*.py")}
    assert plugins <= {*registry.names("attack"), *registry.names("defense")}
    for path in sorted((ROOT / "ppfr_bench").rglob("*.py")):
        part = path.relative_to(ROOT / "ppfr_bench").as_posix()
        found = names_in(path, plugins - WORDS) - NAMED.get(part, set())
        assert not found, f"{part} names {sorted(found)}: expected that it reaches plug-ins by what they declare"


def test_a_name_of_a_plugin_would_be_noticed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('if name == "pixelate":\n    import_module("ppfr_bench.defenses._filters")\n', encoding="utf-8")
    assert names_in(module, {"pixelate", "unet"}) == {"pixelate", "ppfr_bench.defenses._filters"}
