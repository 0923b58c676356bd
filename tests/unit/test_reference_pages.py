"""The pages of commands and of attacks are those of the code, and leave nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_pages import PAGES, commands, safe

from ppfr_bench import registry

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_the_code(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == PAGES[page](), "Run:  python studies/reference_pages.py"


def test_every_command_with_each_of_its_options_is_there() -> None:
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    found = dict(commands())
    assert parts.keys() == found.keys() and {"run", "data prepare", "assets fetch"} <= found.keys()
    for words, command in found.items():
        for parameter in command.params:
            argument = parameter.metavar or parameter.name.upper()
            for name in parameter.opts if parameter.param_type_name == "option" else [argument]:
                assert name in parts[words], f"{words}: {name}"


def test_every_attack_that_comes_with_the_benchmark_is_there() -> None:
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    attacks = registry.names("attack")
    own = [name for name in attacks if registry.source("attack", name).startswith("ppfr_bench.attacks.")]
    assert len(own) > 30
    for name in own:
        assert f'### <a id="{name}"></a>{safe(registry.load("attack", name).card.title)}\n' in text


def test_what_code_says_cannot_break_a_page() -> None:
    assert safe("a | b\n<img> [x](y) snake_case") == r"a \| b &lt;img> \[x\](y) snake\_case"
    assert safe("raise `more_steps` of it_") == r"raise `more_steps` of it\_"
