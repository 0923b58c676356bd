"""The picture of the reference defense's strength has the points of the committed records, and so has its page."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STRENGTHS = {0: "0.0", 35: "0.35", 70: "0.7", 100: "1.0"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "studies/reference_defense"))
    return import_module("plot_dial")


@pytest.mark.parametrize(("dataset", "curves"), [("lfw", 4), ("synthetic", 3)])
def test_every_curve_of_a_data_set_has_its_points(script: Any, dataset: str, curves: int) -> None:
    found = script.points(dataset)
    assert found["curve"].nunique() == curves and set(found["curve"]) <= set(script.CURVES)
    assert ((found["low"] <= found["leakage"]) & (found["leakage"] <= found["high"])).all()
    dial = found[found["curve"] == "dial"]
    assert list(dial["place"]) == list(STRENGTHS)
    assert dial["leakage"].is_monotonic_decreasing, "a greater strength leaks less"


def test_the_page_has_the_points_of_the_picture(script: Any) -> None:
    page = (ROOT / "docs/reference_defense.md").read_text(encoding="utf-8")
    of = {name: script.points(name).set_index(["curve", "place"]) for name in ("lfw", "synthetic")}
    for place, strength in STRENGTHS.items():
        photographs, made = (
            f"{found.loc[('dial', place), 'accuracy']:.1f} | {found.loc[('dial', place), 'leakage']:.3f} |"
            for found in of.values()
        )
        (line,) = (line for line in page.splitlines() if line.startswith(f"| trained | {strength} | {photographs}"))
        assert made in line
