"""What a board says of attacks, defenses and measures that have changed since it was measured."""

from __future__ import annotations

import io
from pathlib import Path

import made_records as made
import pytest
from made_records import board_of
from rich.console import Console

from ppfr_bench.leaderboard import pages, terminal, verdict
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.changes import Changes, changes_of
from ppfr_bench.leaderboard.titles import entry_titles
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Component, Record
from ppfr_bench.suites import load_suite


def earlier(component: Component) -> Component:
    return component.model_copy(update={"version": component.version - 1})


def measured(suite: str = "mine") -> list[Record]:
    """Two defenses against an attack that has a version before today's, and one that is as it was."""
    found = [*made.simple("pixelate", 0.8, 0.6, suite=suite), *made.simple("gaussian_blur", 0.7, 0.5, suite=suite)]
    for label in ("pixelate", "gaussian_blur"):
        found.append(made.identity(label, "linkage", "dlib_resnet", 0.4, draws=made.around(0.4, 0.01), suite=suite))
    return found


def with_earlier(records: list[Record], attack: str) -> list[Record]:
    """The same records, as the version of an attack before today's has made them."""
    return [
        one.model_copy(update={"attack": earlier(one.attack)}) if one.attack and one.attack.label == attack else one
        for one in records
    ]


def printed(board: Board) -> str:
    console = Console(file=io.StringIO(), width=200)
    terminal.print_table(board.rows, console, board.note, board.attack_titles, board.before_numbers)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_board_of_today_says_nothing(tmp_path: Path) -> None:
    board = board_of(measured())
    assert not board.changes and board.changes.said() == board.changes.line == ""
    pages.publish(made.write(tmp_path / "results", measured()), "mine", tmp_path / "out")
    texts = [path.read_text() for path in sorted((tmp_path / "out").rglob("*")) if path.suffix in (".html", ".md")]
    assert len(texts) > 5 and not any("changed since" in text or "earlier attack" in text for text in texts)
    assert "changed since" not in printed(board)


def test_an_attack_of_an_earlier_version_is_named_wherever_the_board_stands(tmp_path: Path) -> None:
    records = with_earlier(measured(), "unet")
    board = board_of(records)
    assert board.changes == Changes("mine", measured=2, attacks=("unet",))
    said = "Measured with earlier attacks: 1 of 2 attacks has changed since (unet)."
    assert board.changes.said() == said and board.changes.command == "ppfr-bench run mine"
    assert f"{said} Measure anew: ppfr-bench run mine" in printed(board)
    pages.publish(made.write(tmp_path / "results", records), "mine", tmp_path / "out")
    out = tmp_path / "out"
    page = (out / "mine" / "leaderboard.html").read_text()
    title = board.attack_titles["unet"]
    assert f"1 of 2 attacks has changed since ({title})." in page and "<code>ppfr-bench run mine</code>" in page
    assert "1 of 2 attacks, which sets a number of the first row, has changed since it was measured" in page
    assert 'id="changed"' in (out / "mine" / "coverage.html").read_text()
    assert "1 of 2 attacks has changed since" in (out / "mine" / "leaderboard.md").read_text()
    assert "1 of 2 attacks has changed since." in (out / "index.html").read_text()


def test_only_a_number_that_an_earlier_attack_has_set_is_warned_of() -> None:
    for attack, place, other in (("unet", "appearance", "identity"), ("linkage", "identity", "appearance")):
        section = board_of(with_earlier(measured(), attack)).sections[0]
        for row in section.rows:
            warned = verdict.warnings(row, section)
            assert "set by an earlier attack" in [one.words for one in warned[place]]
            assert "set by an earlier attack" not in [one.words for one in warned[other]]


def test_a_number_of_nothing_is_not_warned_of() -> None:
    """No stronger attack could lower it; and controls are the ends of the scale."""
    records = with_earlier([*made.simple("a", 0.5, 1.0, 0.0), *made.simple("b", 0.5, 0.3, control=True)], "unet")
    section = board_of(records).sections[0]
    for row in section.rows:
        assert "set by an earlier attack" not in [one.words for one in verdict.warnings(row, section)["appearance"]]


def test_a_plugin_that_is_not_here_any_more_is_named_and_not_called_changed() -> None:
    records = [
        *measured(), made.appearance("pixelate", "gone_attack", {"lpips": 0.1}, suite="mine"),
        *made.simple("gone_defense", 0.5, 0.5, suite="mine"),
    ]  # fmt: skip
    found = changes_of(made.plan_of(records))
    assert found == Changes("mine", measured=3, gone=("attack gone_attack", "defense gone_defense"))
    assert found.said().startswith("Not here, and so not compared: attack gone_attack; ")
    assert found.command == found.head == ""


def test_defenses_measures_and_the_data_set_count_too() -> None:
    plan = made.plan_of(measured())
    table = plan.tables["synthetic"]
    defense = table.defenses["pixelate"]
    older = table.model_copy(
        update={
            "dataset": earlier(table.dataset), "metrics": table.metrics | {"lpips": 0},
            "defenses": table.defenses
            | {"pixelate": defense.model_copy(update={"component": earlier(defense.component)})},
        }
    )  # fmt: skip
    found = changes_of(plan.model_copy(update={"tables": {"synthetic": older}}))
    assert found.others == ("data set synthetic", "defense pixelate", "measure lpips") and not found.attacks
    assert found.said() == f"Changed since it was measured: {'; '.join(found.others)}."
    assert found.command == "ppfr-bench run mine"


def test_a_row_whose_defense_has_changed_is_warned_of() -> None:
    records = [
        one.model_copy(update={"defense": earlier(one.defense)}) if one.defense.label == "pixelate" else one
        for one in measured()
    ]
    section = board_of(records).sections[0]
    warned = {row.defense: [one.words for one in verdict.warnings(row, section)[""]] for row in section.rows}
    assert "an earlier version" in warned["pixelate"] and "an earlier version" not in warned["gaussian_blur"]


@pytest.fixture
def quick() -> PlanFile:
    """The plan of a run of all attacks of ``quick``, as its suite sets them."""
    entries = load_suite("quick").attack
    records = [
        made.appearance("pixelate", one.label, {"lpips": 0.5}, attack_name=one.name, attack_config=dict(one.params))
        for one in entries
    ]
    return made.plan_of(records)


def test_a_suite_that_ships_is_held_against_its_attacks_and_their_parameters(quick: PlanFile) -> None:
    assert not changes_of(quick)
    table = quick.tables["synthetic"]
    unet = table.attacks["unet"]
    steps = unet.component.model_copy(update={"config": unet.component.config | {"steps": 7}})
    attacks = {label: one for label, one in table.attacks.items() if label != "ridge"}
    attacks["unet"] = unet.model_copy(update={"component": steps})
    found = changes_of(
        quick.model_copy(update={"tables": {"synthetic": table.model_copy(update={"attacks": attacks})}})
    )
    assert (found.set_otherwise, found.not_run, found.attacks) == (("unet",), ("ridge",), ())
    assert found.said() == (
        "With other parameters in the suite of today: unet. "
        f"Of the {len(load_suite('quick').attack)} attacks of the suite, not run: ridge."
    )
    assert found.titles == {"ridge": "Ridge inversion"}


def test_attacks_of_one_plugin_that_were_not_run_are_told_apart() -> None:
    suite = load_suite("standard")
    titles = entry_titles(suite.attack)
    assert set(titles) == {one.label for one in suite.attack}
    assert titles["averaging_16"].startswith("Averaging several releases, releases 16")
    assert len(set(titles.values())) == len(titles)


def test_the_page_of_coverage_says_why_an_attack_has_no_numbers(tmp_path: Path) -> None:
    pages.publish(made.write(tmp_path, made.simple("pixelate", 0.8, 0.6, suite="quick")), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/coverage.html").read_text(encoding="utf-8")
    assert "Unshuffling by content (<code>unshuffle</code>)" in page
    assert "The plan of this board has no cell of them" in page


def test_long_lists_are_cut_on_the_page_and_nowhere_else() -> None:
    found = Changes("mine", measured=9, attacks=tuple("abcdefghi"), real_people=True)
    assert "(a; b; c; d; e; f; and 3 others)." in found.said(6) and "(a; b; c; d; e; f; g; h; i)." in found.line
    assert found.line.endswith("ppfr-bench run mine --dataset-root FOLDER")
    assert "others" not in Changes("mine", measured=9, attacks=tuple("abcdefg")).said(6), "one more takes no more room"
