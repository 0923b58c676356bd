"""Where each defense was measured: numbers of all suites of the same results side by side, and gaps in words."""

from __future__ import annotations

import csv
import re
from html import unescape
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from ppfr_bench.leaderboard import pages
from ppfr_bench.leaderboard.across import Across, Line, across
from ppfr_bench.leaderboard.text import at_least
from ppfr_bench.leaderboard.verdict import lower
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

Measured = dict[str, float]  # What leaks, by the label of the defense.


def rows(suite: str, measured: Measured, **more: Any) -> list[Record]:
    return [one for label, leaked in measured.items() for one in made.simple(label, 0.8, leaked, suite=suite, **more)]


def written(root: Path, *suites: list[Record]) -> ResultStore:
    for records in suites:
        made.write(root, records)
    return ResultStore(root)


def table_of(store: ResultStore) -> Across:
    (found,) = across(pages.load_board(store, suite) for suite in store.suites())
    return found


def line_of(store: ResultStore, label: str) -> Line:
    (found,) = (line for line in table_of(store).lines if line.label == label)
    return found


def text_of(page: Path) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))).split())


EASY, HARD = {"winner": 0.1, "middle": 0.4, "both": 0.5}, {"both": 0.7, "middle": 0.9}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """The best row of ``quick`` is not measured in ``standard``, which has another row more."""
    return written(tmp_path, rows("quick", EASY), rows("standard", HARD | {"late": 0.2}))


def test_a_number_is_that_of_its_row_and_a_gap_is_called_so(store: ResultStore) -> None:
    table = table_of(store)
    assert [place.title for place in table.places] == ["quick", "standard"]
    boards = {suite: pages.load_board(store, suite) for suite in store.suites()}
    for line in table.lines:
        for entry in line.entries:
            found = [row for row in boards[entry.place.title].rows if row.defense == line.label]
            if found:
                assert entry.hidden == lower(found[0].privacies["appearance"].estimate) is not None
                assert entry.gap == "" and entry.others == (None,), "no attack sets identity privacy"
            else:
                assert (entry.hidden, entry.gap) == (None, "not measured")
    assert {line.label: len(line.measured) for line in table.lines} == {"both": 2, "middle": 2, "late": 1, "winner": 1}


def test_who_was_measured_everywhere_stands_first_then_by_the_least_anywhere(store: ResultStore) -> None:
    table = table_of(store)
    assert [line.label for line in table.lines] == ["both", "middle", "winner", "late"]
    least = {line.label: line.least.place.title for line in table.lines if line.least is not None}
    assert least == {"both": "standard", "middle": "standard", "winner": "quick", "late": "standard"}


def test_one_suite_alone_has_no_table_and_controls_have_no_line(tmp_path: Path) -> None:
    made.write(tmp_path, rows("quick", EASY))
    alone = ResultStore(tmp_path)
    assert across([pages.load_board(alone, "quick")]) == []
    pages.publish(alone, "quick", tmp_path / "out")
    assert 'id="measured"' not in (tmp_path / "out/index.html").read_text()
    assert "Measured on" not in (tmp_path / "out/quick/defenses/winner.html").read_text()
    records = [*rows("standard", HARD), *rows("standard", {"blackout": 0.0}, control=True)]
    assert "blackout" not in {line.label for line in table_of(written(tmp_path, records)).lines}


def test_other_parameters_are_another_defense(tmp_path: Path) -> None:
    records = rows("standard", {"both": 0.7})
    for record in records:
        record.defense.config["strength"] = 2
    lines = [line for line in table_of(written(tmp_path, rows("quick", EASY), records)).lines if line.label == "both"]
    assert sorted([entry.gap for entry in line.entries] for line in lines) == [
        ["", "not measured"],
        ["not measured", ""],
    ]


def older(records: list[Record], part: str) -> list[Record]:
    """The records of another version of their defense or attack than that of today."""
    found = []
    for record in records:
        component = getattr(record, part)
        other = component.model_copy(update={"version": component.version + 1}) if component is not None else None
        found.append(record.model_copy(update={part: other}))
    return found


def test_a_suite_of_earlier_attacks_is_called_so(tmp_path: Path) -> None:
    store = written(tmp_path, rows("quick", EASY), older(rows("standard", HARD), "attack"))
    assert [place.earlier for place in table_of(store).places] == [False, True]
    assert line_of(store, "both").sentence == sentence(store, "both", ", earlier attacks")


def test_markdown_and_csv_say_where_it_was_measured_and_with_earlier_attacks(tmp_path: Path) -> None:
    store = written(tmp_path, rows("quick", EASY), older(rows("standard", HARD), "attack"))
    for suite, count in (("quick", "0"), ("standard", "1")):
        pages.publish(store, suite, tmp_path / "out")
        folder = tmp_path / "out" / suite
        said = folder.joinpath("leaderboard.md").read_text(encoding="utf-8")
        assert r"| defense | quick | standard \(earlier attacks\) | least anywhere |" in said
        quick, standard = (at_least(entry.hidden) for entry in line_of(store, "both").entries)
        both = f"| both | ≥ {quick} (not measured) | ≥ {standard} (not measured) | ≥ {standard} |"
        assert both in said
        assert ("| winner |" in said.split("### Where these")[1].split("\n\n")[2]) == (suite == "quick"), (
            "rows of others"
        )
        with folder.joinpath("leaderboard.csv").open(encoding="utf-8", newline="") as lines:
            assert {line["cells_of_earlier_attacks"] for line in csv.DictReader(lines)} == {count}


def test_an_earlier_version_of_a_defense_is_called_so(tmp_path: Path) -> None:
    easy, hard = ({"pixelate": leaked} for leaked in (0.5, 0.7))  # Defenses that are not here are not compared.
    store = written(tmp_path, rows("quick", easy), older(rows("standard", hard), "defense"))
    assert line_of(store, "pixelate").sentence == sentence(store, "pixelate", ", earlier version of the defense")


def sentence(store: ResultStore, label: str, more: str) -> str:
    quick, standard = (at_least(entry.hidden) for entry in line_of(store, label).entries)
    return f"Measured on quick ({quick}) and standard ({standard}{more})."


def test_what_is_incomplete_or_claimed_has_no_number(tmp_path: Path) -> None:
    easy, hard = rows("quick", EASY), rows("standard", HARD)
    more = {"attack": "ridge", "suite": "standard"}
    failing = made.record("both", "attack", measures="appearance", status="failed", reason="memory", **more)
    other = made.appearance("middle", leakage={"lpips": 0.3}, draws={"lpips": made.around(0.3, 0.01)}, **more)
    store = written(tmp_path, easy, [*hard, failing, other])
    keys = tuple(record.key for record in easy if record.defense.label == "middle")
    store.write_claims("quick", {"synthetic/middle": Claim(defense="middle", source_sha256="a" * 64, keys=keys)})
    both, middle = line_of(store, "both"), line_of(store, "middle")
    assert [entry.gap for entry in both.entries] == ["", "incomplete, 2 of 3"]
    assert both.least is not None and both.least.place.title == "quick"
    assert [entry.gap for entry in middle.entries] == ["claimed by the authors", ""]
    assert re.fullmatch(r"Measured on standard \(0\.\d\d\); claimed by the authors on quick\.", middle.sentence)


def test_pages_say_it_and_the_same_whether_one_suite_is_published_or_all(store: ResultStore, tmp_path: Path) -> None:
    one, together = tmp_path / "one", tmp_path / "all"
    pages.publish(store, "quick", one)
    list(pages.publish_all(store, together))
    for path in sorted((one / "quick").rglob("*.html")):
        assert path.read_bytes() == (together / path.relative_to(one)).read_bytes()
    winner = line_of(store, "winner")
    assert winner.sentence.endswith("; not measured on standard.")
    said = text_of(one / "quick/defenses/winner.html")
    assert f"{winner.sentence} In brackets: images hidden, at least. All suites" in said
    index = (together / "index.html").read_text(encoding="utf-8")
    (table,) = re.findall(r'<section id="measured">.*?</section>', index, re.DOTALL)
    assert table.count(">not measured</td>") == 2
    links = re.findall(r'href="([^"]+)">≥', table)
    assert len(links) == 6 and all((together / link).is_file() for link in links)
    # A suite without pages is on the pages of others, and has no link on the page of all.
    assert 'id="measured"' not in (one / "index.html").read_text(encoding="utf-8")


def test_another_track_is_another_table(tmp_path: Path) -> None:
    """It stands on the page of all suites, and not on the pages of this track."""
    templates = [rows(suite, {"t": 0.3}, track="template") for suite in ("first", "second")]
    store = written(tmp_path, rows("quick", EASY), rows("standard", HARD), *templates)
    boards = [pages.load_board(store, suite) for suite in store.suites()]
    assert [[place.title for place in one.places] for one in across(boards)] == [
        ["quick", "standard"], ["first", "second"],
    ]  # fmt: skip
    (only,) = across(boards, {"template"})
    assert [place.title for place in only.places] == ["first", "second"]
