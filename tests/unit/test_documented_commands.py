"""Every command line in the documentation is one that the program takes: its words, options and values."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ppfr_bench.cli import app

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
