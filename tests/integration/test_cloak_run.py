"""The cloak track end to end: a suite, its records and its table."""

from __future__ import annotations

from pathlib import Path

import pytest
import warm_python

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytestmark = pytest.mark.assets
ROWS = ("no_cloak", "no_face", "erasable_mask")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, command_environment: dict[str, str]) -> Path:
    found = tmp_path_factory.mktemp("cloaks") / "results"
    rows = [word for row in ROWS for word in ("--defense", row)]
    done = warm_python.run(
        ["-m", "ppfr_bench.cli", "run", "cloak_smoke", *rows, "--scheduler", "inline", "--results", found],
        command_environment,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return found


def records_of(results: Path, row: str) -> list[Record]:
    return [one for one in ResultStore(results).records() if one.defense is not None and one.defense.label == row]


def test_every_cell_of_every_row_is_measured(results: Path) -> None:
    for row in ROWS:
        found = [one for one in records_of(results, row) if one.cell != "canary"]
        assert {one.status for one in found} == {"ok"} and {one.track for one in found} == {"cloak"}
        (utility,) = (one for one in found if one.cell == "utility")
        assert utility.recognizer is None and utility.scorer == "likeness"
        kept = utility.metrics["retention"].value.value
        assert kept == {"no_cloak": 1, "no_face": 0}.get(row, kept) and kept is not None
        attacks = [one.attack.label for one in found if one.attack is not None]
        assert len(set(attacks)) == 8 and attacks.count("recognition") == 2 and attacks.count("purifier") == 1


def test_the_controls_are_the_ends_of_recognition(results: Path) -> None:
    for row, leaked in (("no_cloak", 1.0), ("no_face", 0.0)):
        for record in records_of(results, row):
            if record.attack is not None and record.attack.label == "recognition":
                found = record.metrics["rank_1"].leakage
                assert found is not None and found.value == pytest.approx(leaked, abs=1e-6)
                assert record.metrics["tar_at_far_1e-2"].value.value is None, "132 pairs of strangers are too few"


def test_the_table_has_likeness_and_recognition(results: Path, command_environment: dict[str, str]) -> None:
    pages = results.parent / "pages"
    done = warm_python.run(
        ["-m", "ppfr_bench.cli", "leaderboard", "--results", results, "--out", pages], command_environment
    )
    assert done.returncode == 0, done.stderr + done.stdout
    table = (pages / "cloak_smoke" / "leaderboard.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"retention", "recognition_privacy", "lpips", "ssim", "still_detected"} <= set(table)
