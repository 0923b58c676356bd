"""What is committed under results/ and leaderboards/: whole, from clean code, and each page what its records say."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from ppfr_bench import registry
from ppfr_bench.leaderboard.comparable import foreign_records
from ppfr_bench.leaderboard.pages import publish
from ppfr_bench.leaderboard.table import build
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.suites import load_suite

ROOT = Path(__file__).parents[2]
SUITES = sorted(folder.name for folder in (ROOT / "results").iterdir() if folder.is_dir())
pytestmark = pytest.mark.skipif(not SUITES, reason="a checkout without records")
LARGEST = 12_000_000  # bytes of all published results


@pytest.fixture(scope="module", params=SUITES)
def records(request: pytest.FixtureRequest) -> list[Record]:
    return list(ResultStore(ROOT / "results").records(request.param))


def test_every_record_is_of_clean_code_and_gave_numbers(records: list[Record]) -> None:
    assert {record.status for record in records} == {"ok"}
    assert {record.environment.dirty for record in records} == {False}
    for record in records:
        parts = [part.value for found in record.metrics.values() for _, part in found.parts()]
        values = [value for value in parts if value is not None]
        assert values and all(map(math.isfinite, values)), record.key


def test_a_suite_lists_what_has_records_and_every_row_is_complete(records: list[Record]) -> None:
    suite = load_suite(records[0].suite)
    assert {record.defense.label for record in records} == {entry.label for entry in suite.defense}
    for record in records:
        assert record.defense.name in registry.names("defense")
        assert record.defense.version == registry.load("defense", record.defense.name).version
        assert record.attack is None or record.attack.version == registry.load("attack", record.attack.name).version
    plan = ResultStore(ROOT / "results").plan(suite.name)
    assert plan is not None
    assert [row.defense for row in build(records, plan) if not row.complete] == []
    assert foreign_records(records, plan) == []


def test_what_is_published_is_few_small_files() -> None:
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and path.name != "index.parquet"]
    assert sum(path.stat().st_size for path in files) < LARGEST and len(files) < 150
    assert not [path for path in files if ".cells" in path.parts], "every cell lies in its row"


def texts(folder: Path) -> set[str]:
    """What is text of a suite's pages; pictures depend on the fonts at hand."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".html", ".md", ".csv")}


@pytest.mark.parametrize("suite", SUITES)
def test_the_pages_are_those_of_the_records(suite: str, tmp_path: Path) -> None:
    publish(ROOT / "results", suite, tmp_path)
    for name in sorted(texts(ROOT / "leaderboards" / suite) | texts(tmp_path / suite)):
        committed = (ROOT / "leaderboards" / suite / name).read_text(encoding="utf-8")
        assert committed == (tmp_path / suite / name).read_text(encoding="utf-8"), name
    table = "leaderboard.parquet"  # its bytes depend on who wrote it
    pd.testing.assert_frame_equal(
        pd.read_parquet(ROOT / "leaderboards" / suite / table), pd.read_parquet(tmp_path / suite / table)
    )
