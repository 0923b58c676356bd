"""What holds of every command alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from ppfr_bench.cli import app
from ppfr_bench.console import tell


def commands() -> dict[str, Any]:
    """Every command by its words."""
    found: dict[str, Any] = {}
    whole: Any = typer.main.get_command(app)
    for name, command in whole.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {word}": one for word, one in inner.items()} if inner else {name: command}
    return found


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_command_answers_in_json(words: str) -> None:
    options = [option for parameter in commands()[words].params for option in parameter.opts]
    assert "--json" in options


def test_what_is_told_is_words_or_facts(capsys: pytest.CaptureFixture[str]) -> None:
    tell("3 images: [x]", False, images=3)
    assert capsys.readouterr().out == "3 images: [x]\n"
    tell("3 images", True, images=3)
    assert json.loads(capsys.readouterr().out) == {"images": 3}
