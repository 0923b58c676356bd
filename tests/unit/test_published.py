"""What is committed under results/ and leaderboards/: whole, from clean code, and each page what its records say."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from ppfr_bench import registry
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.changes import changes_of
from ppfr_bench.leaderboard.comparable import foreign_records
from ppfr_bench.leaderboard.pages import publish_all
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.nightly import read_history, trend
from ppfr_bench.records import rows
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Plan, make_plan
from ppfr_bench.suites import load_suite

ROOT = Path(__file__).parents[2]
STORE = ResultStore(ROOT / "results")
SUITES = STORE.suites()
pytestmark = pytest.mark.skipif(not SUITES, reason="a checkout without records")
CHANGES = {suite: changes_of(plan) for suite in SUITES if (plan := STORE.plan(suite)) is not None}
CHANGED = {suite for suite, found in CHANGES.items() if found}
LARGEST = 16_000_000 // 6  # Bytes of the published results of a board, on average.


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
    measured, listed = {record.defense.label for record in records}, {entry.label for entry in suite.defense}
    assert measured <= listed and (measured == listed or suite.name in CHANGED)
    for record in records:
        assert record.defense.name in registry.names("defense")
        if record.suite not in CHANGED:
            assert record.defense.version == registry.load("defense", record.defense.name).version
            assert record.attack is None or record.attack.version == registry.load("attack", record.attack.name).version
    plan = ResultStore(ROOT / "results").plan(suite.name)
    assert plan is not None
    assert [row.defense for row in build(records, plan) if not row.complete] == []
    assert foreign_records(records, plan) == []


def test_one_number_has_one_interval_wherever_it_is_printed(records: list[Record]) -> None:
    """Against attackers who hold as many releases as any, a privacy is the row's; and limits hold what they limit."""
    store = ResultStore(ROOT / "results")
    plan = store.plan(records[0].suite)
    assert plan is not None
    for section in Board(records[0].suite, tuple(records), plan).sections:
        for row in section.rows:
            for name, privacy in row.privacies.items():
                if section.shots and privacy.estimate.value is not None:
                    assert section.against(row, name)[-1] == privacy.estimate, (row.defense, name)
            for estimate in (row.score, row.retention, *(one.estimate for one in row.privacies.values())):
                if estimate.interval is not None and estimate.value is not None:
                    assert estimate.interval[0] <= estimate.value <= estimate.interval[1]
            if row.rank is not None:
                low, high = row.rank_interval or (0, 0)
                first = row.privacies[section.rules.privacies[0]] if section.rules is not None else None
                assert first is not None and low <= row.rank <= high
                assert not (row.front and first.estimate.value == 0)


def test_what_is_published_is_few_small_files() -> None:
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and path.name != "index.parquet"]
    assert sum(path.stat().st_size for path in files) < LARGEST * len(SUITES) and len(files) < 250
    assert not [path for path in files if ".cells" in path.parts], "every cell lies in its row"


@pytest.fixture(scope="module")
def plans(records: list[Record]) -> tuple[PlanFile, Plan]:
    """What is published of the suite, and what a run of it would plan on data of the same revision."""
    name = records[0].suite
    published = ResultStore(ROOT / "results").plan(name)
    assert published is not None and len(published.tables) == 1
    (table,) = published.tables.values()
    data: Any = SimpleNamespace(
        version=table.dataset.version, revision=table.revision, card=SimpleNamespace(real_people=table.real_people)
    )
    return published, make_plan(load_suite(name), data)


def test_a_run_of_the_suite_would_find_nothing_to_do(records: list[Record], plans: tuple[PlanFile, Plan]) -> None:
    """A change of what determines numbers changes keys: the suite is run again, or its pages say what has changed.

    What pages say follows from versions, so whoever changes what a plug-in does raises its version.

    Answers that were made elsewhere stand beside what the suite runs.
    """
    published, plan = plans
    ((label, table),) = published.tables.items()
    today = plan.published().tables[label]
    if published.suite in CHANGED:
        assert {cell.key for cell in table.cells} != {cell.key for cell in today.cells}, "nothing has changed"
        return
    elsewhere = {label for label, attack in table.attacks.items() if not attack.live}
    attacks = {label: attack for label, attack in table.attacks.items() if attack.live}
    assert {
        cell.place: cell.key for cell in table.cells if cell.seed == table.seed and cell.attack not in elsewhere
    } == {cell.place: cell.key for cell in today.cells}
    parts = ("dataset", "revision", "real_people", "seed", "protocol", "defenses", "attacks", "recognizers", "metrics")
    for part in parts:
        assert getattr(table.model_copy(update={"attacks": attacks}), part) == getattr(today, part), part
    assert (published.title, published.suite) == (plan.title, plan.suite)
    there = {record.key for record in records}
    assert {cell.key for cell in table.cells if cell.seed == table.seed} <= there <= {cell.key for cell in table.cells}


def test_a_file_of_a_row_is_what_its_records_give_and_has_all_its_faces(records: list[Record]) -> None:
    """None of them was edited by hand, and each record that names faces has them: of synthetic people alone."""
    store, suite = ResultStore(ROOT / "results"), records[0].suite
    at = {(record.dataset.label, record.defense.label) for record in records}
    found = {(path.parent.name, path.stem) for path in (ROOT / "results" / suite).glob("*/*.jsonl")}
    assert found == at
    for dataset, defense in at:
        path = ROOT / "results" / suite / dataset / f"{defense}.jsonl"
        row = rows.read(path.read_bytes(), path.name, (suite, dataset, defense))
        assert rows.write(list(row), row.sheet) == path.read_bytes()
        assert (row.sheet is not None) == path.with_suffix(".jpg").is_file()
    for record in records:
        assert (store.strip(record) is not None) == bool(record.samples)
        assert not (record.real_people and record.samples)


def texts(folder: Path) -> set[str]:
    """What is text of a suite's pages; pictures depend on the fonts at hand."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".html", ".md", ".csv")}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, as ``ppfr-bench leaderboard`` writes them from the records."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "results").symlink_to(ROOT / "results")  # Pages lead to records that lie beside them.
    assert len(list(publish_all(ResultStore(folder / "results"), folder / "leaderboards"))) == len(SUITES)
    return folder / "leaderboards"


@pytest.mark.parametrize("suite", SUITES)
def test_the_pages_are_those_of_the_records(suite: str, written: Path) -> None:
    out = written / suite
    for name in sorted(texts(ROOT / "leaderboards" / suite) | texts(out)):
        committed = (ROOT / "leaderboards" / suite / name).read_text(encoding="utf-8")
        assert committed == (out / name).read_text(encoding="utf-8"), name
    table = "leaderboard.parquet"  # its bytes depend on who wrote it
    pd.testing.assert_frame_equal(pd.read_parquet(ROOT / "leaderboards" / suite / table), pd.read_parquet(out / table))


def test_the_page_of_all_suites_is_that_of_the_records(written: Path) -> None:
    page = "index.html"
    assert (ROOT / "leaderboards" / page).read_text(encoding="utf-8") == (written / page).read_text(encoding="utf-8")


def test_the_page_of_nights_is_that_of_their_history() -> None:
    nights = ROOT / "leaderboards" / "nights.jsonl"
    assert nights.with_name("nightly.html").read_bytes() == trend(read_history(nights))


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")
@pytest.mark.parametrize("page", ["leaderboards", "which_defense"])
def test_boards_of_earlier_attacks_are_called_so(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    called = [line for line in text.splitlines() if "measured with earlier versions of the attacks**" in line]
    assert {name for line in called for name in line.split(" measured with")[0].split("`")[1::2]} == {
        suite for suite, found in CHANGES.items() if found.attacks
    }
