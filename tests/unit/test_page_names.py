"""Names and numbers on every kind of page: titles before ids, heads that lead to a definition, numbers that open."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import made_records as made
import pytest
from made_records import write

from ppfr_bench.leaderboard import definitions, pages
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.privacy import UNCOUNTED
from ppfr_bench.leaderboard.titles import attack_title, in_words, measured
from ppfr_bench.records.record import Component
from ppfr_bench.records.store import ResultStore

RESULTS = Path(__file__).parents[2] / "results"
# Heads that are words of their own, and no names of this benchmark.
PLAIN = {
    "State", "Reason", "Setting", "Parameters", "Worse off", "Measure", "Gap", "Data set", "What was measured", "Here",
    "Reported", "Elsewhere", "Similarities", "Error trade-off (DET)", "Impostor pairs", "Expected, %", "floor", "Cost",
    "best reconstruction", "Releases held, at most", "Best attack", "ppfr-bench", "Commit", "Python", "torch",
    "Platform", "Processor", "Device", "Threads", "SSIM of a reconstruction", "Verification accuracy, %",
}  # fmt: skip
SMALL = re.compile(r"<(small|code|pre)\b.*?</\1>", re.DOTALL)  # Where ids may stand.
MATRIX = re.compile(r'<div class="[^"]*matrix.*?</div>\s', re.DOTALL)


@pytest.fixture(scope="module")
def board() -> Board:
    return pages.load_board(ResultStore(RESULTS), "template_quick")


@pytest.fixture(scope="module")
def found(board: Board) -> dict[str, str]:
    """The pages of a committed board by path."""
    kinds = ("leaderboard.html", "coverage.html", "attacks/*", "defenses/*")
    made_pages = [one.publish(board) for one in pages.publishers() if one.name in kinds]
    return {path: page.decode() for some in made_pages for path, page in some.items() if path.endswith(".html")}


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub("<wbr>|<br>", "", html))).split())


def without_matrix(path: str, page: str) -> str:
    """A page without the table of leakage by attack, whose heads and cells lead to pages of their own."""
    return MATRIX.sub("", page) if path == "leaderboard.html" else page


def test_attacks_have_their_titles_and_ids_are_small_print(found: dict[str, str], board: Board) -> None:
    labels = [label for label in board.attack_titles if "_" in label]
    assert len(found) > 15 and "template_naming" in labels
    for path, page in found.items():
        body = page[page.index("<main") : page.index("</main>")]
        said = words(SMALL.sub("", body))
        assert not [label for label in labels if re.search(rf"\b{label}\b(?! \()", said)], path


def test_every_head_of_a_column_leads_to_its_definition(found: dict[str, str]) -> None:
    named = PLAIN | {"light", "intermediate", "dark", "dlib_resnet", "mobilefacenet", "faceplugin"}
    for path, page in found.items():
        for head in re.findall(r'<th[^>]*scope="col(?:group)?"[^>]*>(.*?)</th>', without_matrix(path, page), re.DOTALL):
            bare = words(re.sub(r'<(a class="definition"|small).*?</(a|small)>', "", head))
            if "data-docs" not in head and "<a href" not in head and not re.fullmatch(r"[\d.]+", bare):
                assert bare in named, (path, bare)


def test_every_number_opens_to_its_record(found: dict[str, str]) -> None:
    """All but sums over cells and counts."""
    opening = 0
    for path, page in found.items():
        for cell in re.findall(r'<td[^>]*class="number[^"]*"[^>]*>(.*?)</td>', without_matrix(path, page), re.DOTALL):
            number = words(re.sub(r"<small.*?</small>", "", cell))
            if re.match(r"[≥-]? ?\d+\.\d", number):
                assert '<details class="trace"><summary>' in cell and "ppfr-bench show" in cell, (path, number)
                opening += 1
    assert opening > 500


def test_what_is_missing_opens_to_its_reason(tmp_path: Path) -> None:
    records = [*made.simple("a", 0.5, 0.5), *made.simple("b", 0.5, 0.5)[:1]]
    failing = made.record("b", "attack", attack="unet", measures="appearance", status="failed", reason="out of memory")
    pages.publish(write(tmp_path / "r", [*records, failing]), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    gaps = re.findall(r"<summary>–<span class=\"hidden\"> ([^<]*)</span></summary><span class=\"record\">([^<]*)", page)
    assert ("no rank", "incomplete, 1 of 2") in gaps
    assert ("not measured", "no appearance attack was measured") in gaps
    assert 'title="' not in re.sub(r"<title>.*?</title>", "", MATRIX.sub("", page)), "what only a mouse can point at"
    coverage = (tmp_path / "out/quick/coverage.html").read_text()
    assert "failed: 1" in words(coverage) and "It ended with an error." in coverage
    assert "A row that is incomplete has no rank" in coverage


def test_every_measure_that_a_committed_board_shows_is_defined() -> None:
    """Numbers of records, as pages name them; the site checks that each address leads somewhere."""
    store, shown = ResultStore(RESULTS), set()
    for suite in store.suites():
        shown |= {name for record in store.records(suite) for name, one in record.metrics.items() if one.leakage}
    shown -= set(UNCOUNTED)
    assert len(shown) > 15 and not [name for name in shown if not definitions.address(name)]
    assert not [name for name in shown if "_" in measured(name).replace("D_sys", "")]


def test_measures_have_names_that_are_read() -> None:
    said = {"lpips": "LPIPS", "rank_1": "rank 1", "tar_at_far_1e-3": "TAR at FAR 0.1%", "linked_d_sys": "linked D_sys",
            "membership_auc": "membership AUC", "not_certified_l2_0.5": "not certified within 0.5"}  # fmt: skip
    assert {name: measured(name) for name in said} == said


def test_what_raised_a_flag_is_told_by_titles() -> None:
    titles = {"averaging_64": "Averaging 64", "averaging_16": "Averaging 16"}
    said = in_words("averaging_64 below averaging_16 on ms_ssim", titles)
    assert said == "Averaging 64 below Averaging 16 on MS-SSIM"
    assert in_words("averaging_64 / dlib_resnet at 28 of 60", titles) == "Averaging 64 / dlib_resnet at 28 of 60"


def test_an_attack_that_starts_from_another_names_it_by_its_title() -> None:
    probes = [Component(label=f"l{at}", name="linkage", version=1, config={"probe": probe, "filter": kind})
              for at, (probe, kind) in enumerate((("protected", "none"), ("unet", "blur")))]  # fmt: skip
    told = [attack_title(one, probes).partition(", ")[2] for one in probes]
    assert told == ["probe protected", "filter blur, probe U-Net inversion"]
