"""Every command line in the documentation is one that the program takes, and runs where it needs nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from documented import KNOWN, NOT_RUN, PAGES, ROOT, TRIED, commands, shell_lines, why_not_run
from made_networks import write_card, write_onnx
from made_photographs import ALIGNED, make_cfp, make_lfw
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.datasets.preparation import prepare
from ppfr_bench.scaffold import write_plugin
from ppfr_bench.suites import load_suite, suite_names

UsageError: Any = typer.BadParameter.__base__  # typer has a click of its own


def parse(words: list[str]) -> None:
    """Take the words as the program would, and run nothing; a command's name alone is enough.

    Raises:
        UsageError: an unknown command or option, a value of another kind, a word too many or too few.
    """
    command: Any = typer.main.get_command(app)
    context = command.context_class(command)
    while getattr(command, "commands", None):
        name, command, words = command.resolve_command(context, words)
        context = command.context_class(command, parent=context, info_name=name)
    if words and "--help" not in words:  # a page may name a command without what it takes
        command.make_context(context.info_name, words, parent=context.parent)


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")
def test_the_documentation_has_commands() -> None:
    assert len(KNOWN) > 50
    assert {line.split()[0] for _, line in KNOWN} > {"run", "check", "leaderboard", "submit", "nightly", "train"}


@pytest.mark.parametrize(("page", "line"), KNOWN)
def test_a_documented_command_is_one(page: str, line: str) -> None:
    if "..." in line or "…" in line:
        line = line.replace("=...", "=1")
    parse(shlex.split(line))


def test_an_option_that_is_gone_would_be_noticed() -> None:
    with pytest.raises(UsageError, match="--defence"):
        parse(["run", "quick", "--defence", "pixelate"])
    with pytest.raises(UsageError, match="nonsense"):
        parse(["nonsense"])


@pytest.mark.skipif(not (ROOT / "Makefile").is_file() or shutil.which("make") is None, reason="no checkout, or no make")
def test_make_official_measures_every_board_and_the_seeds_of_its_first_rows() -> None:
    cluster = "--scheduler tcp://192.168.0.1:8786 --stages /shared/stages"
    done = subprocess.run(
        ["make", "-n", "official", f"CLUSTER={cluster}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [shlex.split(line)[1:] for line in done.stdout.splitlines() if "/ppfr-bench " in line]
    runs = [words for words in found if words[0] == "run"]
    assert found == [*runs, ["leaderboard", "--results", "results", "--out", "leaderboards"]]
    seeded: dict[str, list[str]] = {}
    for words in runs:
        parse(words)
        assert shlex.join(words).endswith(cluster) and words[2:4] == ["--results", "results/unfinished"]
        seeded.setdefault(words[1], []).append(words[words.index("--seed") + 1] if "--seed" in words else "")
        suite, named = load_suite(words[1]), [words[at + 1] for at, word in enumerate(words) if word == "--defense"]
        assert set(named) <= {one.label for one in suite.defense}
        assert not named or set(suite.controls) <= set(named)
    needs_more = {"full", "lfw_large"}  # They need a machine with time, the latter a pack of weights too.
    assert set(seeded) == {name for name in suite_names() if not load_suite(name).for_tests} - needs_more
    for name, seeds in seeded.items():
        assert seeds == (["", "1", "2"] if load_suite(name).ensemble else [""]), name


@pytest.mark.skipif(not (ROOT / "Makefile").is_file() or shutil.which("make") is None, reason="no checkout, or no make")
def test_make_official_replaces_a_board_only_by_one_that_is_whole(tmp_path: Path) -> None:
    """Each run here adds its line to the board; the third is stopped once."""
    run = """#!/bin/sh
[ "$1" = run ] || exit 0
[ "$6" != 2 ] || [ -e allowed ] || exit 1
mkdir -p "$4/$2" && echo "seed ${6:-0}" >> "$4/$2/records"
"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / ".installed").touch()
    program, published = tmp_path / "bin" / "ppfr-bench", tmp_path / "results" / "quick" / "records"
    program.write_text(run, encoding="utf-8")
    program.chmod(0o755)
    published.parent.mkdir(parents=True)
    published.write_text("published\n", encoding="utf-8")
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", "bin/.installed", "official-quick", "BIN=bin"]

    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode
    assert published.read_text(encoding="utf-8") == "published\n"
    unfinished = tmp_path / "results" / "unfinished" / "quick"
    assert (unfinished / "records").read_text(encoding="utf-8") == "published\nseed 0\nseed 1\n"

    (tmp_path / "allowed").touch()
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert published.read_text(encoding="utf-8") == "published\nseed 0\nseed 1\nseed 0\nseed 1\nseed 2\n"
    assert not unfinished.exists()


OWN = {"my_defense": "defense", "half_grey": "defense", "my_attack": "attack"}  # The documentation has these written.
PRINTED = {"my_cloak": "submit_a_cloak", "my_scheme": "submit_a_template_scheme",
           "my_hardening": "submit_a_hardened_recognizer"}  # fmt: skip


def is_quick(words: tuple[str, ...]) -> bool:
    """Whether a command only lists, plans, checks or writes a file: the others are in test_documented_runs."""
    if words[0] in ("list", "doctor", "new") or words[:2] == ("assets", "list"):
        return True
    return words[-1] == "--dry-run" or (words[0] == "check" and words[1] in OWN)


QUICK = [words for words in TRIED if is_quick(words)]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")
def test_each_reason_not_to_run_a_command_is_that_of_one() -> None:
    idle = [pattern for pattern in NOT_RUN if not any(re.search(pattern, line) for _, line in KNOWN)]
    assert not idle, f"no documented command is like {idle}: delete them"
    known = {line for _, line in KNOWN}
    assert len([line for line in known if why_not_run(line) is None]) > 0.6 * len(known)
    for why in NOT_RUN.values():
        for name in re.findall(r"test_\w+\.py", why):
            assert list((ROOT / "tests").rglob(name)), f"{name} is no test"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader has who plans a run: photographs, a suite, a recognizer, plug-ins, the studies."""
    folder = tmp_path_factory.mktemp("reader")
    make_cfp(folder / "cfp")
    prepare("lfw", make_lfw(folder / "lfw"), folder / "aligned", ALIGNED)
    (folder / "studies").symlink_to(ROOT / "studies")
    (suite,) = re.findall(r"```toml\n(title.*?)```", (ROOT / "docs/howto/write_a_suite.md").read_text("utf-8"), re.S)
    (folder / "suite.toml").write_text(suite, encoding="utf-8")
    write_card(folder, write_onnx(folder / "made.onnx"))
    for name, page in PRINTED.items():
        (code,) = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/howto/{page}.md").read_text("utf-8"), re.S)
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return folder


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_a_documented_command_runs(
    words: tuple[str, ...], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is planned; ``list``, ``check``, ``new`` and ``doctor`` do what they do for a reader."""
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    monkeypatch.setattr(registry, "_here", "--trust" in words)
    monkeypatch.setenv("PPFR_BENCH_LFW", str(files / "lfw"))
    monkeypatch.chdir(tmp_path)
    for name, kind in OWN.items():
        if name in words and words[0] != "new":
            registry.add_plugin(write_plugin(kind, name).resolve())
    if words[0] != "new":
        monkeypatch.chdir(files)
        for name in PRINTED:
            if name in words:
                registry.add_plugin(files / f"{name}.py")
    done = CliRunner().invoke(app, list(words))
    allowed = (0, 1) if words[0] == "doctor" else (0,)  # The doctor may find that something is missing.
    assert done.exit_code in allowed, f"{done.output}{done.exception}"
    for name in [name for name in sys.modules if name.startswith("ppfr_bench.plugins.")]:
        del sys.modules[name]


@pytest.mark.skipif(not (ROOT / "Makefile").is_file(), reason="no checkout: no Makefile")
def test_what_make_is_asked_for_in_the_documentation_is_there() -> None:
    asked = {line.split()[1] for page in PAGES for line in shell_lines(page) if re.match(r"make [a-z]", line)}
    assert asked >= {"leaderboard", "test"}
    done = subprocess.run(["make", "--dry-run", *sorted(asked)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_scripts_of_the_documentation_are_there_and_take_these_options() -> None:
    lines = {line for page in PAGES for line in shell_lines(page) if re.search(r"python (studies|examples)/", line)}
    assert len(lines) > 5
    for line in lines:
        (path,) = re.findall(r"python (\S+\.py)", line)
        code = (ROOT / path).read_text(encoding="utf-8")
        for option in re.findall(r" (--[a-z-]+)", line):
            assert f'"{option}"' in code, f"{path} takes no {option}"


@pytest.mark.parametrize("page", ["README.md", "docs/howto/submit_a_defense.md"])
def test_the_defense_printed_in_the_documentation_keeps_the_contract(page: str, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    assert found is not None
    plugin = tmp_path / "printed.py"
    plugin.write_text(found.group(1), encoding="utf-8")
    command = [sys.executable, "-m", "ppfr_bench.cli", "check", str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "keeps the contract" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["submit_a_cloak", "submit_a_hardened_recognizer", "submit_a_template_scheme"])
def test_the_row_of_a_track_printed_in_its_how_to_passes_the_check_that_is_printed_there(
    page: str, tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (name,) = set(re.findall(r"`defenses/(my_\w+)\.py`", text))
    plugin = tmp_path / f"{name}.py"
    plugin.write_text(code, encoding="utf-8")
    (line,) = [one for one in commands(ROOT / "docs" / "howto" / f"{page}.md") if one.startswith("check ")]
    words = [str(plugin) if word == name else word for word in shlex.split(line)]
    done = subprocess.run([sys.executable, "-m", "ppfr_bench.cli", *words], capture_output=True, text=True)
    assert done.returncode == 0 and "keeps the contract" in done.stdout, done.stdout + done.stderr
