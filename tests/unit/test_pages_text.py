"""Text on pages and on the terminal: what a record holds is inert, and rows are explained in words."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import made_records as made
from made_records import build, by_label, write
from rich.console import Console

from ppfr_bench.leaderboard import pages, terminal, text
from ppfr_bench.records.record import Record

HOSTILE = '"><script>alert(1)</script>| `rm -rf` [x](javascript:alert(1)) \x1b[31m\u202e\n=cmd()'


def html_of(folder: Path) -> dict[str, str]:
    """Every page of a suite by its path, which a hostile name may have had a part in."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.html"))}


# Hostile text ------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Counts of tags, and every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def hostile(url: str = "javascript:alert(1)") -> list[Record]:
    card = {
        "title": HOSTILE, "family": HOSTILE, "reference": HOSTILE, "licence": "x" * 5000,
        "code_url": url, "deviations": [HOSTILE],
    }  # fmt: skip
    good = made.simple("a", 0.5, 0.5, card=card)
    bad = made.record(
        "a", "attack", attack="ridge", measures="appearance", status="failed", reason=HOSTILE * 40, card=card,
        flags=(HOSTILE,),
    )  # fmt: skip
    canary = made.canary("dlib_resnet", 0.9, 0.98).model_copy(
        update={
            "environment": replace(made.ENVIRONMENT, processor=HOSTILE),
            "log": {"expected_accuracy": HOSTILE},
        }
    )
    return [*good, bad, canary]


def test_text_from_records_is_inert_in_html(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile()), "quick", tmp_path / "out")
    found = html_of(tmp_path / "out" / "quick")
    entries = {"defenses/a.html", "attacks/unet.html", "attacks/ridge.html"}
    assert set(found) == {"leaderboard.html", "coverage.html", *entries}
    for page in found.values():
        tags = Tags(page)
        assert tags.tags.count("script") == 1
        assert not [name for name, _ in tags.attributes if name.startswith("on")]
        links = [value for name, value in tags.attributes if name == "href"]
        assert links and all(not str(link).startswith(("javascript", "vbscript")) for link in links)
        assert "\x1b" not in page and "\u202e" not in page
        assert "x" * 1100 not in page
        assert not re.search(r"""(?:src|href|srcset)=["'](?:https?:)?//""", page), "nothing is loaded from elsewhere"


def test_only_web_addresses_become_links(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile("https://example.org/a?b=1&c=2")), "quick", tmp_path / "out")
    assert 'href="https://example.org/a?b=1&amp;c=2"' in (tmp_path / "out/quick/defenses/a.html").read_text()
    for url in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil",
        "file:///etc/passwd",
        "https://",
        "http://[",
        3,
        " https://a",
    ):
        assert text.link(url) == ""


def test_text_from_records_is_inert_in_markdown(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile()), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.md").read_text()
    assert "<" not in page and "javascript:" not in page
    assert not re.search(r"(?<!\\)\]\(", page), "no link is made"
    tables = re.findall(r"(?:^\|.*\n?)+", page, flags=re.M)
    assert len(tables) >= 3
    for found in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in found.strip().splitlines()}
        assert len(counts) == 1, "a pipe in a name split a cell"


def test_text_from_records_is_inert_in_a_spreadsheet(tmp_path: Path) -> None:
    for start in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1"):
        assert text.csv_text(start).startswith("'")
    assert text.csv_text("plain") == "plain"
    records = [record.model_copy(update={"flags": ("=HYPERLINK(1)",)}) for record in made.simple("a", 0.5, 0.5)]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    (line,) = csv.DictReader(io.StringIO((tmp_path / "out/quick/leaderboard.csv").read_text()))
    assert line["flags"] == "'=HYPERLINK(1)"


def test_text_from_records_is_inert_on_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None)
    records = hostile()
    for what in (*records, *build(records)):
        terminal.explain(what, console)
    terminal.print_table(build(records), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[31m" not in shown and "\u202e" not in shown
    assert "[x](javascript" in shown, "brackets are text, not markup"


# In words ----------------------------------------------------------------------------------------------------------


def test_a_row_and_a_record_are_explained_in_words() -> None:
    records, _ = made.quick()
    console = Console(file=io.StringIO(), width=200)
    row = by_label(build(records))["stochastic_local"]
    terminal.explain(row, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "Rank 1",
        "set by unet, lpips",
        "floor 0.600",
        "ceiling 0.100",
        "attack_not_converged",
        "9 of 9 cells",
    ):
        assert part in shown
    assert text.show(row.privacies["appearance"].estimate.key) in shown
    record = next(r for r in records if r.cell == "attack" and r.sets == "identity")
    console = Console(file=io.StringIO(), width=200)
    terminal.explain(record, console)
    assert "floor (ignoring the target) 0.0167; ceiling (no defense) 1.0000" in console.file.getvalue()  # type: ignore[attr-defined]


def test_numbers_are_printed_one_way() -> None:
    assert [text.number(x) for x in (0.934, -0.001, None, 1)] == ["0.93", "0.00", "–", "1.00"]
    assert text.percent(0.9915) == "99.1" or text.percent(0.9915) == "99.2"
    assert text.ranks(2, (1, 3)) == "2 (tied 1 to 3)" and text.ranks(2, (2, 2)) == "2" and text.ranks(None, None) == "–"
    assert [text.duration(s) for s in (0.2, 41, 200, 7500)] == ["under 1 s", "41 s", "3 min 20 s", "2 h 05 min"]
    assert len(text.plain("x" * 5000)) == text.LONGEST


def test_lower_limits_are_rounded_down_and_upper_ones_up() -> None:
    """``0.29`` and ``0.57`` are binary numbers a little below; ``0.2493`` is not at least 0.25."""
    below = {0.2493: "0.24", 0.29: "0.29", 0.57: "0.57", 0.28999999999: "0.29", -0.001: "-0.01", -1e-17: "0.00"}
    assert {value: text.at_least(value) for value in below} == below
    above = {0.2501: "0.26", 0.29: "0.29", 0.07: "0.07", 0.2800000000001: "0.28", 1.0: "1.00", -0.001: "0.00"}
    assert {value: text.at_most(value) for value in above} == above
    assert (text.at_least(0.98765, 4), text.at_least(None), text.at_most(None)) == ("0.9876", "–", "–")
    assert (text.at_least(1234.6), text.at_most(1234.1)) == ("1,234", "1,235")


def test_no_page_claims_more_than_the_lower_limit(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", records, pictures), "quick", tmp_path / "out")
    places = [*(tmp_path / "out/quick/defenses").glob("*.html"), tmp_path / "out/quick/leaderboard.html"]
    found = [
        (float(limit), float(printed))
        for place in places
        for limit, printed in re.findall(r'data-sort="([^"]+)"(?:(?!data-sort).)*?>≥ ([\d.]+)<', place.read_text())
    ]
    assert len(found) > 30 and all(0 <= limit - printed < 0.01 for limit, printed in found)
    (section,) = made.board_of(records).sections
    page = (tmp_path / "out/quick/leaderboard.md").read_text()
    for row in section.rows:
        for name in section.privacies:
            low, _ = row.privacies[name].estimate.interval or (0.0, 0.0)
            assert f"| at least {text.at_least(low)}: {text.bracketed(row.privacies[name].estimate)} |" in page
    for target, reaching in section.targets:
        limits = [row.privacies["appearance"].estimate.interval for row in section.rows if row.rank is not None]
        assert len(reaching) == sum(float(text.at_least(one[0])) >= target for one in limits if one), target


def test_the_most_that_a_privacy_can_be_is_rounded_up(tmp_path: Path) -> None:
    records = [
        made.appearance("a", "unet", {"lpips": 0.1234}), made.utility("a", "one", 0.9),
        made.appearance("a", "averaging_4", {"lpips": 0.1}, log={"shots": 4}),
        made.record("a", "attack", attack="ridge", measures="appearance", status="failed", reason="no memory"),
    ]  # fmt: skip
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.md").read_text()
    assert "| at most 0.88 |" in page and "| a | at most 0.88 | at most 0.88 |" in page
    assert "<small>at most 0.88</small>" in (tmp_path / "out/quick/leaderboard.html").read_text()
    console = Console(file=io.StringIO(), width=200)
    terminal.print_table(build(records), console)
    assert "at most 0.88" in console.file.getvalue()  # type: ignore[attr-defined]
