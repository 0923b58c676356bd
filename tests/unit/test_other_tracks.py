"""Rows, attacks and suites of tracks whose releases are of another kind, and what is said where two kinds meet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.suites import load_suite, suite_names
from ppfr_bench.tracks.base import load_track

ROWS = {name: registry.track_of(registry.load("defense", name)) for name in registry.names("defense")}
OTHERS = [name for name, track in ROWS.items() if not load_track(track).general]
ATTACKS = [name for name in registry.names("attack") if registry.load("attack", name).card.tracks]
SUITES = {
    suite: track
    for track in sorted(set(ROWS.values()))
    for suite in suite_names()
    if suite.startswith(f"{track}_") and load_suite(suite).dataset.name == "synthetic"
}


def test_there_is_a_suite_of_each_size_for_each_track() -> None:
    tracks = {ROWS[name] for name in OTHERS}
    assert {"template", "cloak", "robustness"} <= tracks
    assert {f"{track}_{size}" for track in tracks for size in ("smoke", "quick")} <= set(SUITES)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_of_a_track_has_its_rows_and_its_own_controls(suite: str) -> None:
    plan = resolve(suite).plan
    rows = {plan.ceiling.name, plan.floor.name, *(row.name for row in plan.defenses)}
    assert {ROWS[name] for name in rows} == {SUITES[suite]}
    assert all(registry.load("defense", one.name).card.control for one in (plan.ceiling, plan.floor))
    assert {cell.kind for cell in plan.cells} == {"canary", "utility", "attack"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_keeps_the_contract_of_its_track(name: str) -> None:
    try:
        assert check_plugin("defense", name) == []
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_keeps_the_contract_of_its_track(name: str) -> None:
    try:
        assert check_plugin("attack", name) == []
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite.endswith("_smoke")])
def test_a_row_of_images_is_refused_in_a_suite_of_another_track(suite: str) -> None:
    with pytest.raises(UserError, match="a suite has rows of one kind of release") as error:
        resolve(suite, Asked(defenses=("pixelate",)))
    assert "list suites" in error.value.hint


@pytest.mark.parametrize("track", ["template", "robustness"])
def test_an_attack_on_images_is_refused_in_a_suite_of_another_track(track: str) -> None:
    with pytest.raises(UserError, match="attacks what images and representations release"):
        resolve(f"{track}_smoke", Asked(attacks=("visual",)))


@pytest.mark.parametrize("track", ["template", "robustness"])
def test_an_attack_of_another_track_is_refused_on_images(track: str) -> None:
    attack = next(name for name in ATTACKS if track in registry.load("attack", name).card.tracks)
    with pytest.raises(UserError, match=f"attacks what {track} release"):
        resolve("smoke", Asked(attacks=(attack,)))


@pytest.mark.parametrize("track", ["template", "robustness"])
def test_what_protects_no_images_protects_no_folder(track: str, tmp_path: Path) -> None:
    row = next(name for name in OTHERS if ROWS[name] == track)
    (tmp_path / "in").mkdir()
    done = CliRunner().invoke(app, ["protect", row, str(tmp_path / "in"), str(tmp_path / "out")])
    assert done.exit_code != 0 and not (tmp_path / "out").exists()
    assert isinstance(done.exception, UserError) and "protects no images" in done.exception.message


FILES = {
    "template": """
from ppfr_bench.api import DefenseCard
from ppfr_bench.template.api import TemplateProtection


class Mine(TemplateProtection):
    version = 1
    card = DefenseCard(title="Mine", family="none", reference="none", licence="MIT")

    def protect(self, embeddings, key, generator):
        return embeddings

    def compare(self, probes, references):
        return (probes * references).sum(1)


DEFENSE = Mine
""",
    "cloak": """
from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak


class Mine(Cloak):
    version = 1
    card = DefenseCard(title="Mine", family="none", reference="none", licence="MIT", clear_share=1.0)

    def cloak(self, images, generator):
        return (images + 0.01).clamp(0, 1)


DEFENSE = Mine
""",
}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plug-ins and the trust of one test."""
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    yield
    registry.run_here(False)
    sys.modules.pop("ppfr_bench.plugins.mine", None)


@pytest.mark.parametrize("track", FILES)
def test_a_file_of_another_track_runs_with_trust_alone(track: str, tmp_path: Path, own: None) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILES[track], encoding="utf-8")
    with pytest.raises(UserError, match=f"is of track {track}") as error:
        registry.add_plugin(path)
    assert "--trust" in error.value.hint and "mine" not in registry.names("defense")
    registry.run_here()
    assert registry.add_plugin(path) == [("defense", "mine")]
    assert registry.track_of(registry.load("defense", "mine")) == track
