"""The pages of commands and of attacks are those of the code, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import attack_pictures
import numpy as np
import pytest
import threat_ladder
from PIL import Image
from reference_pages import PAGES, commands, safe

from ppfr_bench import registry
from ppfr_bench.suites import load_suite

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


def test_every_defense_that_comes_with_the_benchmark_is_there() -> None:
    page = (ROOT / "docs" / "defenses.md").read_text(encoding="utf-8")
    own = [
        one for one in registry.names("defense") if registry.source("defense", one).startswith("ppfr_bench.defenses.")
    ]
    assert len(own) > 50
    for name in own:
        assert f'### <a id="{name}"></a>{safe(registry.load("defense", name).card.title)}\n' in page


def test_what_code_says_cannot_break_a_page() -> None:
    assert safe("a | b\n<img> [x](y) snake_case") == r"a \| b &lt;img> \[x\](y) snake\_case"
    assert safe("raise `more_steps` of it_") == r"raise `more_steps` of it\_"


def test_the_pictures_of_attacks_are_of_the_published_faces() -> None:
    drawn = attack_pictures.pictures()
    assert {"visual", "unet", "averaging", "template_inversion"} <= drawn.keys()
    assert {path.stem for path in attack_pictures.FOLDER.glob("*.webp")} == drawn.keys()
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(attacks/(\w+)\.webp\)", text)) == drawn.keys()
    for name, picture in drawn.items():
        kept = np.asarray(Image.open(attack_pictures.FOLDER / f"{name}.webp").convert("RGBA"), dtype=float)
        made = np.asarray(picture.draw(), dtype=float)
        assert kept.shape == made.shape
        assert (np.abs(kept - made)[made[..., 3] > 0]).mean() < 4, f"{name}: python studies/attack_pictures.py"


def test_the_ladder_holds_each_attack_that_sets_or_measures_something_once() -> None:
    assert threat_ladder.PICTURE.read_text(encoding="utf-8") == threat_ladder.draw(), "python studies/threat_ladder.py"
    text = (ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8")
    assert f"![{threat_ladder.alt()}](threat_ladder.svg)" in text
    found = [label for step in threat_ladder.steps() for labels in step.attacks.values() for label in labels]
    entries = load_suite(threat_ladder.SUITE).attack
    measured = [one.label for one in entries if registry.load("attack", one.name).card.measures != "control"]
    assert sorted(found) == sorted(measured)
    assert [step.title for step in threat_ladder.steps() if "averaging_64" in str(step.attacks)] == ["Several releases"]
    last = threat_ladder.steps()[-1].attacks
    assert last["rebuilds the face"] == ["adversarial_inversion", "gradient_inversion"]
    assert last["names the person"] == ["linkage_adversarial"], "it starts from what that attack rebuilds"
