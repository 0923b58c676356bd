"""The table of what each part of the attacks is worth is what the study has measured."""

from __future__ import annotations

import json
from pathlib import Path

from ablation.ablation import DEFENSES, MEASURED, table

PAGE = Path(__file__).parents[2] / "docs" / "threat_model.md"


def test_the_page_shows_what_was_measured() -> None:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert list(measured["defenses"]) == list(DEFENSES)
    assert "\n".join(table(measured)) in PAGE.read_text(encoding="utf-8")
