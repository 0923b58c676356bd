"""What the questions page and the pages with measured figures say is what the boards and the records say."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from measured_pages import PAGES, rendered

from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "faq.md").read_text(encoding="utf-8").split())
pytestmark = pytest.mark.skipif(not (ROOT / "leaderboards").is_dir(), reason="no checkout: no committed records")


def rows(suite: str) -> list[dict[str, str]]:
    with (ROOT / "leaderboards" / suite / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["control"] != "true"]


def says(pattern: str) -> list[str]:
    found = re.search(pattern, PAGE)
    assert found, pattern
    return list(found.groups())


def test_a_permutation_looks_private_and_is_not() -> None:
    (seen,) = [
        record.metrics
        for record in ResultStore(ROOT / "results").records("standard")
        if (record.defense.label, record.slot[1]) == ("block_permutation", "visual")
    ]
    numbers = [seen[name].value.value for name in ("ssim", "lpips")]
    floors = [floor.value for name in ("ssim", "lpips") if (floor := seen[name].floor) is not None]
    (row,) = [row for row in rows("standard") if row["defense"] == "block_permutation"]
    told = says(r"SSIM (\S+) and LPIPS (\S+), worse .*? \((\S+) and (\S+)\)\. .*? reconstruction has SSIM (\d\.\d+)\.")
    here = [*numbers, *floors, float(row["ssim"])]
    assert told == [f"{value:.3f}" for value in here]


def test_identity_privacy_is_low_where_something_is_kept() -> None:
    told = says(r"`quick`, (\d+) of (\d+) defenses .*? `standard` (\d+) of (\d+), in `lfw_quick` (\d+) of (\d+)\.")
    here = []
    for suite in ("quick", "standard", "lfw_quick"):
        found = [float(row["identity_privacy"]) for row in rows(suite) if row["identity_privacy"]]
        here += [str(sum(value <= 0.1 for value in found)), str(len(found))]
    assert told == here
    (limit,) = says(r"above 0\.5 has a retention above (\S+)\.")
    kept = [
        float(r["retention"]) for r in rows("lfw_quick") if r["identity_privacy"] and float(r["identity_privacy"]) > 0.5
    ]
    assert kept and max(kept) <= float(limit)


def test_how_long_a_defense_takes() -> None:
    told = [
        float(number) for number in says(r"took (\d+) to (\d+) minutes in `quick` and (\d+) minutes to (\d+) hours")
    ]
    quick, standard = ([float(row["seconds"]) / 60 for row in rows(suite)] for suite in ("quick", "standard"))
    here = [min(quick), max(quick), min(standard), max(standard) / 60]
    assert all(abs(a - b) < 1 for a, b in zip(told, here, strict=True)), here


def test_thumbnails_are_told_apart_as_the_footguns_say() -> None:
    footguns = " ".join((ROOT / "docs" / "footguns.md").read_text(encoding="utf-8").split())
    for share in says(r"verifies (\S+%) of synthetic pairs and (\S+%) of LFW"):
        assert share in footguns


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == rendered(page), "Run:  python studies/measured_pages.py"
