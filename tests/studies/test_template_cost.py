"""The page of the study of costs: its rows and its plot are those of the figures, to the byte."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

STUDY = Path(__file__).parents[2] / "studies" / "template_cost"
pytestmark = pytest.mark.skipif(not STUDY.is_dir(), reason="no checkout: no studies")


@pytest.fixture(scope="module", autouse=True)
def _on_the_path() -> Any:
    sys.path.append(str(STUDY))
    yield
    sys.path.remove(str(STUDY))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one real run writes: two small galleries are measured, a large one is extrapolated."""
    pytest.importorskip("tenseal")
    pytest.importorskip("mpyc")
    cost, target = import_module("cost"), tmp_path_factory.mktemp("cost") / "measured.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "GALLERIES", (40, 80, 100_000))
        patch.setattr(sys, "argv", ["cost.py", "--seconds", "0", "--dimension", "128", "--out", str(target)])
        cost.main()
    return target


def test_one_command_writes_the_figures_the_page_and_the_plot(measured: Path) -> None:
    found = json.loads(measured.read_text(encoding="utf-8"))
    text = (measured.parent / "README.md").read_text(encoding="utf-8")
    for method in ("cryptomask", "ckks_cosine"):
        for one in found[method]:
            how = "measured" if one["measured"] else "extrapolated"
            assert f"| {one['gallery']:,.0f} | `{method}` | {how} |" in text
        assert found[method][0]["measured"] and not found[method][-1]["measured"]
        sent = [one["bytes_down"] for one in found[method]]
        assert sent == sorted(sent), "a larger gallery sends more"
    assert "cost.svg" in text
    drawn = (measured.parent / "cost.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml") and "cryptomask" in drawn and "ckks_cosine" in drawn


def test_the_same_figures_give_the_same_bytes(measured: Path) -> None:
    names = ("README.md", "cost.svg")
    before = [(measured.parent / name).read_bytes() for name in names]
    import_module("cost_page").written(measured)
    assert [(measured.parent / name).read_bytes() for name in names] == before


def test_a_machine_that_was_not_quiet_is_said(measured: Path) -> None:
    found = json.loads(measured.read_text(encoding="utf-8"))
    said = "it was not quiet, so the times are too long"
    page = import_module("cost_page").page
    assert said in page(found | {"load_before": 3.0}) and said not in page(found | {"load_before": 0.1})


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    found = json.loads((STUDY / "measured.json").read_text(encoding="utf-8"))
    assert (STUDY / "README.md").read_text(encoding="utf-8") == import_module("cost_page").page(found)
