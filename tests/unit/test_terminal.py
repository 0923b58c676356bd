"""The terminal at 80 columns and wider: titles, fewer columns where it is narrow, and no number that is cut."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import made_records as made
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ppfr_bench import console as consoles
from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.leaderboard import terminal
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.titles import attack_title, attack_titles, in_words
from ppfr_bench.records.record import Component, Record


def board() -> Board:
    """Three settings of one defense with a long name, and two others."""
    records: list[Record] = []
    for label, strength in (("stochastic_anonymizer", 0.35), ("stochastic_anonymizer_70", 0.7)):
        for one in made.simple(label, 0.9, 0.4):
            component = Component(label=label, name="stochastic_anonymizer", version=1, config={"strength": strength})
            card = one.defense_card | {"title": "Stochastic local-feature anonymizer"}
            records.append(one.model_copy(update={"defense": component, "defense_card": card}))
    records += [*made.simple("pixelate", 0.8, 0.5), *made.simple("gaussian_blur", 0.7, 0.6)]
    return Board("quick", tuple(records), made.plan_of(records))


def printed(width: int, of: Board | None = None) -> str:
    file, found = io.StringIO(), of or board()
    terminal.print_table(found.rows, Console(file=file, width=width), found.note, found.attack_titles, found.warning)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    shown = printed(width)
    table = [line for line in shown.splitlines() if line[:1] in "┏┡│└┃├"]
    assert table and max(map(len, table)) <= width and "…" not in shown
    scores = [f"{row.score.value:.2f}" for row in board().rows if row.score.value is not None]
    assert scores and all(score in shown for score in scores)
    for row in board().rows:
        assert row.score.interval is not None
        assert "[{:.2f}, {:.2f}]".format(*row.score.interval) in shown, "an interval stands in one piece"


def test_below_120_columns_there_are_the_numbers_that_count() -> None:
    narrow, wide = printed(80), printed(200)
    head = narrow.split("┡")[0]
    assert all(word in head for word in ("rank", "defense", "score", "retention", "appearance", "privacy"))
    assert not any(word in head for word in ("images/s", "state", "set by", "identity")) and "More columns" in narrow
    assert all(word in wide.split("┡")[0] for word in ("images/s", "state", "set by", "identity"))
    assert "More columns" not in wide and "More columns" not in printed(120)


def test_rows_have_titles_and_settings_with_their_names_below() -> None:
    shown = printed(260)
    for part in ("Stochastic local-feature anonymizer, strength 0.7", "stochastic_anonymizer_70", "strength 0.35"):
        assert part in shown


def test_a_suite_for_tests_says_so_and_no_other_does() -> None:
    records = [one.model_copy(update={"suite": "smoke"}) for one in made.simple("pixelate", 0.8, 0.5)]
    smoke = Board("smoke", tuple(records), made.plan_of(records))
    assert "its numbers and ranks mean nothing" in smoke.warning and "mean nothing" in printed(200, smoke)
    assert board().warning == "" and "mean nothing" not in printed(200)


def test_attacks_have_the_title_of_their_card_and_what_sets_them_apart() -> None:
    averaging = [
        Component(label=f"averaging_{count}", name="averaging", version=1, config={"releases": count, "steps": 9})
        for count in (4, 16)
    ]
    title = registry.load("attack", "averaging").card.title
    assert attack_title(averaging[0], averaging) == f"{title}, releases 4"
    assert attack_title(averaging[0], averaging[:1]) == title
    assert attack_title(Component(label="own_one", name="own_one", version=1), []) == "Own one"
    titles = attack_titles(board().plan)
    assert titles["unet"] == registry.load("attack", "unet").card.title
    assert in_words("unet, ms_ssim", titles) == f"{titles['unet']}, MS-SSIM" and in_words("", titles) == ""


@pytest.mark.parametrize("width", [60, 80, 140])
def test_progress_cuts_the_task_and_never_the_count(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(
        consoles, "err", consoles.NeutralConsole(file=file, width=width, force_terminal=True, color_system=None)
    )
    with consoles.Steps(1234, "standard on synthetic", "cells") as steps:
        for _ in range(3):
            steps.advance("stochastic_anonymizer_100 / adversarial_inversion / dlib_resnet")
        steps.bar.refresh()
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    assert re.search(r" 3/1234 \d+:\d\d:\d\d elapsed \d+:\d\d:\d\d left", last) and last.startswith("stand"), last
    assert len(last) <= width and (width > 100 or "…" in last)


def test_lists_have_titles_and_explain() -> None:
    def listed(*words: str) -> str:
        done = CliRunner().invoke(app, ["list", *words])
        assert done.exit_code == 0, done.output
        return done.output

    card = registry.load("attack", "unet").card
    assert re.search(rf"^unet +{re.escape(card.title)} *$", listed("attacks"), re.MULTILINE)
    told = listed("attacks", "-v")
    assert (
        card.title in told and card.plain in told and card.reference in told and f"knowledge: {card.knowledge}" in told
    )
    assert json.loads(listed("attacks", "--json"))["unet"] == {"title": card.title}
    verbose = json.loads(listed("attacks", "-v", "--json"))["unet"]
    assert (verbose["plain"], verbose["reference"], verbose["family"]) == (card.plain, card.reference, card.family)
    every = json.loads(listed("--json"))
    assert all(one["title"] for members in every.values() for one in members.values()), "each has a title"
    assert every["suites"]["smoke"]["title"] == "Smoke"


def test_a_card_without_plain_words_is_reminded_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["new", "attack", "my_reminded"]).exit_code == 0
    path = tmp_path / "my_reminded.py"
    assert 'plain="",  # Say what it is, in one or two sentences' in path.read_text()
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0 and "keeps the contract" in done.output and "`plain` is empty" in done.output
    assert "`plain`" not in CliRunner().invoke(app, ["check", "visual"]).output
