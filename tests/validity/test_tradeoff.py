"""Turning up a dial keeps less and leaks less: three settings of each family, least protection first.

Measured by ``ppfr-bench run tests/validity/tradeoff.toml --results tests/validity/records``; the records are committed.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ppfr_bench.leaderboard.rows import Figure, Row
from ppfr_bench.leaderboard.table import build
from ppfr_bench.results import ResultStore
from ppfr_bench.suites import load_suite

HERE = Path(__file__).parent
SUITE = load_suite(str(HERE / "tradeoff.toml"))
FAMILIES = sorted({entry.name for entry in SUITE.defense if entry.label != entry.name})
NUMBERS = ("retention", "appearance leakage", "identity leakage")


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    if not (HERE / "records" / "tradeoff").is_dir():
        pytest.skip("not measured yet: run tests/validity/tradeoff.toml")
    records = list(ResultStore(HERE / "records").records("tradeoff"))
    assert {record.environment.dirty for record in records} == {False}
    return {row.defense: row for row in build(records)}


def number(row: Row, name: str) -> Figure:
    if name == "retention":
        return row.retention
    privacy = row.appearance if name == "appearance leakage" else row.identity
    value, interval = privacy.figure.value, privacy.figure.interval
    assert value is not None and interval is not None, privacy.figure.reason
    return Figure(1 - value, (1 - interval[1], 1 - interval[0]))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dial_trades_the_one_for_the_other(family: str, name: str, rows: dict[str, Row]) -> None:
    settings = [rows[f"{family}_{at}"] for at in (1, 2, 3)]
    assert all(row.complete for row in settings)
    found = [number(row, name) for row in settings]
    for weaker, stronger in pairwise(found):
        assert weaker.interval is not None and stronger.interval is not None
        assert stronger.interval[0] <= weaker.interval[1], (weaker, stronger)
    least, most = found[0].interval, found[-1].interval
    assert least is not None and most is not None and most[1] < least[0], (found[0], found[-1])
