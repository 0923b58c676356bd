"""Turning up a dial keeps less and leaks less: three settings of each family, least protection first.

Measured by ``ppfr-bench run studies/tradeoff/tradeoff.toml --results studies/tradeoff/records``, and the same for
``tradeoff_lfw.toml``; the records are committed. What is kept is judged on LFW: on the synthetic faces a thumbnail of
4x4 pixels tells people apart (docs/footguns.md), and so does whatever a blur, a mosaic or a mean of faces leaves.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.table import build
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.store import ResultStore
from ppfr_bench.suites import load_suite

STUDY = Path(__file__).parents[2] / "studies" / "tradeoff"
SUITE = load_suite(str(STUDY / "tradeoff.toml"))
FAMILIES = sorted({entry.name for entry in SUITE.defense if entry.label != entry.name})
LEAKAGES = ("appearance", "identity")
ROOM = 0.3  # of retention: what keeps less at its mildest has nowhere to go


def measured(suite: str) -> dict[str, Row]:
    store = ResultStore(STUDY / "records")
    records, plan = list(store.records(suite)), store.plan(suite)
    assert plan is not None
    assert {record.environment.dirty for record in records} == {False}
    return {row.defense: row for row in build(records, plan)}


@pytest.fixture(scope="module")
def synthetic() -> dict[str, Row]:
    return measured("tradeoff")


@pytest.fixture(scope="module")
def lfw() -> dict[str, Row]:
    return measured("tradeoff_lfw")


def falls(found: list[Estimate]) -> bool:
    """Whether no setting is above the milder one by more than the intervals allow."""
    ends = [figure.interval for figure in found if figure.interval]
    assert len(ends) == len(found)
    return all(stronger[0] <= weaker[1] for weaker, stronger in pairwise(ends))


def ends_lower(found: list[Estimate]) -> bool:
    """Whether the last lies below the first, outside the intervals."""
    assert found[0].interval is not None and found[-1].interval is not None
    return found[-1].interval[1] < found[0].interval[0]


def settings(family: str, rows: dict[str, Row]) -> list[Row]:
    found = [rows[f"{family}_{at}"] for at in (1, 2, 3)]
    assert all(row.complete for row in found)
    return found


@pytest.mark.parametrize("name", LEAKAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_more_protection_leaks_less(family: str, name: str, synthetic: dict[str, Row]) -> None:
    found = []
    for row in settings(family, synthetic):
        privacy = row.privacies[name].estimate
        assert privacy.value is not None and privacy.interval is not None, privacy.reason
        found.append(Estimate(1 - privacy.value, (1 - privacy.interval[1], 1 - privacy.interval[0])))
    assert falls(found) and ends_lower(found), found


@pytest.mark.parametrize("family", FAMILIES)
def test_more_protection_keeps_less(family: str, lfw: dict[str, Row]) -> None:
    found = [row.retention for row in settings(family, lfw)]
    assert falls(found), found
    assert found[0].value is not None
    assert ends_lower(found) or found[0].value < ROOM, found


@pytest.mark.parametrize("family", FAMILIES)
def test_more_protection_never_keeps_more_on_synthetic_faces(family: str, synthetic: dict[str, Row]) -> None:
    assert falls([row.retention for row in settings(family, synthetic)])


def test_half_of_the_dials_have_room_on_real_faces(lfw: dict[str, Row]) -> None:
    mildest = [settings(family, lfw)[0].retention.value or 0.0 for family in FAMILIES]
    assert sum(value >= ROOM for value in mildest) * 2 >= len(FAMILIES), mildest
