"""Every command line in the documentation is one that the program takes, and runs where it needs nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.scaffold import write_plugin
from ppfr_bench.suites import load_suite, suite_names

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "studies").glob("*.md")])
BLOCK = re.compile(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(ppfr-bench [^`\n]+)`")
UsageError: Any = typer.BadParameter.__base__  # typer has a click of its own
CUT = re.compile(r"&&|\|\||;|\|")  # between the commands of a line


def commands(page: Path) -> Iterator[str]:
    """The command lines of a page that call the program, continued lines joined, comments away."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *INLINE.findall(text)]:
        for part in CUT.split(re.sub(r"(^|\s)#.*", "", line)):
            found = re.search(r"(?:^|/|\s)ppfr-bench\s+([a-z-].*)", part.strip())
            if found:
                yield re.sub(r"\s[<>].*", "", found.group(1)).strip()


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


KNOWN = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in dict.fromkeys(commands(page))]


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
        assert shlex.join(words).endswith(cluster) and words[2:4] == ["--results", "results"]
        seeded.setdefault(words[1], []).append(words[words.index("--seed") + 1] if "--seed" in words else "")
        suite, named = load_suite(words[1]), [words[at + 1] for at, word in enumerate(words) if word == "--defense"]
        assert set(named) <= {one.label for one in suite.defense}
        assert not named or set(suite.controls) <= set(named)
    needs_more = {"full", "lfw_large"}  # They need a machine with time, the latter a pack of weights too.
    assert set(seeded) == {name for name in suite_names() if not load_suite(name).for_tests} - needs_more
    for name, seeds in seeded.items():
        assert seeds == (["", "1", "2"] if load_suite(name).ensemble else [""]), name


# What these options name is not there when the documentation is read: files, clusters, other data.
ELSEWHERE = {"--plugin", "--precomputed", "--answers", "--scheduler", "--stages", "--device", "--dataset",
             "--dataset-root", "--recognizer", "--take", "--trust", "--drop-duplicates"}  # fmt: skip
OWN = {"my_defense": "defense", "half_grey": "defense", "my_attack": "attack"}  # The documentation has these written.


def on_smoke(line: str) -> list[str] | None:
    """The words of a command, its suite the smoke suite of its track; None where it needs what is not here."""
    words = shlex.split(line)
    if words[0] in ("list", "doctor", "new") or words[:2] == ["assets", "list"]:
        return None if ELSEWHERE & set(words) or "NAME" in words else words
    if words[0] == "check" and len(words) == 2 and words[1] in OWN:
        return words
    if words[0] != "run" or len(words) < 2 or words[1] not in suite_names() or "lfw" in words[1]:
        return None
    named = {words[at + 1] for at, word in enumerate(words[:-1]) if word in ("--defense", "--attack")}
    known = {*registry.names("defense"), *registry.names("attack"), *OWN}
    if ELSEWHERE & set(words) or not named <= known:
        return None
    track = words[1].partition("_")[0] + "_" if "_" in words[1] else ""
    results = [at for at, word in enumerate(words) if word == "--results"]
    kept = [word for at, word in enumerate(words) if not any(at in (one, one + 1) for one in results)]
    return ["run", f"{track}smoke", *kept[2:], *(["--dry-run"] if "--dry-run" not in kept else [])]


RUN = sorted({" ".join(map(shlex.quote, words)) for _, line in KNOWN if (words := on_smoke(line))})


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")
def test_most_commands_of_the_documentation_are_run() -> None:
    assert len(RUN) >= 20 and {line.split()[0] for line in RUN} >= {"run", "list", "new", "check"}


@pytest.mark.parametrize("line", RUN)
def test_a_documented_command_runs_on_smoke(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is planned there; ``list``, ``check``, ``new`` and ``doctor`` do what they do for a reader."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    words = shlex.split(line)
    if words[0] != "new":
        for name, kind in OWN.items():
            if name in line:
                registry.add_plugin(write_plugin(kind, name).resolve())
    done = CliRunner().invoke(app, words)
    allowed = (0, 1) if words[0] == "doctor" else (0,)  # The doctor may find that something is missing.
    assert done.exit_code in allowed, f"{done.output}{done.exception}"
    for name in [name for name in sys.modules if name.startswith("ppfr_bench.plugins.")]:
        del sys.modules[name]


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
