"""What a table and its rows say in plain sentences: made of their numbers and of the limits of these."""

from __future__ import annotations

import re
from pathlib import Path

import made_records as made
import pytest
from made_records import write

from ppfr_bench.leaderboard import pages, trace, verdict
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import at_least
from ppfr_bench.records.record import Component, Record
from ppfr_bench.records.store import ResultStore


def section_of(records: list[Record], plan_seed: int = 0) -> Section:
    board = Board("quick", tuple(records), made.plan_of(records, plan_seed))
    return board.sections[0]


def row_of(section: Section, label: str) -> Row:
    return next(row for row in section.rows if row.defense == label)


def attacked(label: str, looks: float, who: float, kept: float = 0.9, rebuilt: float | None = None) -> list[Record]:
    """A defense of which an attack regains so much of the looks, and a recognizer names so many people."""
    records = made.simple(label, kept, looks)
    records.append(made.identity(label, "linkage", "dlib_resnet", who, draws=made.around(who, 0.01, 7)))
    if rebuilt is not None:
        again = made.identity(
            label, "linkage_unet", "dlib_resnet", rebuilt, draws=made.around(rebuilt, 0.01, 8),
            attack_config={"probe": "unet"},
        )  # fmt: skip
        records.append(again)
    return records


@pytest.mark.parametrize(
    ("looks", "who", "said"),
    [
        (0.1, 0.1, "Hides looks and identity"),
        (0.1, 0.6, "Hides looks, identity in part"),
        (0.1, 0.95, "Hides looks, not identity"),
        (0.6, 0.1, "Hides identity, looks in part"),
        (0.6, 0.6, "Hides looks and identity in part"),
        (0.6, 0.95, "Hides looks in part, not identity"),
        (0.95, 0.1, "Hides identity, not looks"),
        (0.95, 0.6, "Hides identity in part, not looks"),
        (0.95, 0.95, "Hides neither looks nor identity"),
    ],
)
def test_a_row_says_what_it_hides(looks: float, who: float, said: str) -> None:
    section = section_of(attacked("a", looks, who))
    found = verdict.row_verdict(section.rows[0], section)
    assert found.startswith(f"{said}: ") and found.endswith("One seed.")


def test_the_lower_limit_counts_and_not_the_value() -> None:
    """A measured privacy of 0.52 whose interval reaches 0.47 hides looks in part."""
    wide = made.appearance("a", "unet", {"lpips": 0.48}, draws={"lpips": made.around(0.48, 0.03, 1)})
    records = [*attacked("a", 0.48, 0.95)[:1], wide, attacked("a", 0.48, 0.95)[2]]
    section = section_of(records)
    privacy = section.rows[0].privacies["appearance"].estimate
    assert privacy.value is not None and privacy.value > 0.5 > (verdict.lower(privacy) or 1.0)
    assert verdict.row_verdict(section.rows[0], section).startswith("Hides looks in part, not identity")


def test_how_many_are_named_is_said_of_the_face_and_of_a_retrained_recognizer() -> None:
    section = section_of(attacked("a", 0.1, 0.97, rebuilt=0.5))
    said = verdict.row_verdict(section.rows[0], section)
    found = re.search(r"a rebuilt face is named for (\d+) of 100; a retrained recognizer names (\d+) of 100\.", said)
    assert found is not None and found.groups() == ("50", "97"), said


def test_little_that_is_kept_is_said() -> None:
    section = section_of(attacked("a", 0.1, 0.1, kept=0.04))
    assert "Recognizers keep almost nothing: 0.04 (0.02 to 0.06)." in verdict.row_verdict(section.rows[0], section)


def test_controls_gaps_and_claims_are_no_verdict() -> None:
    failing = made.record("a", "attack", attack="unet", measures="appearance", status="failed", reason="killed")
    records = [*made.simple("no_defense", 1.0, 1.0, control=True), *made.simple("black", 0.0, 0.0, control=True),
               made.utility("a", "dlib_resnet", 0.5), failing]  # fmt: skip
    section = section_of(records)
    said = {row.defense: verdict.row_verdict(row, section) for row in section.rows}
    assert said["no_defense"] == "Control: nothing is protected."
    assert said["black"] == "Control: the other end of the scale."
    assert said["a"].startswith("No verdict: 1 of 2 cells gave a number.")
    warned = verdict.warnings(row_of(section, "a"), section)
    assert [one.words for one in warned[""]] == ["incomplete, 1 of 2", "one seed"]
    assert verdict.table_verdict(section)[0][1].startswith("Not known")


def test_a_row_of_several_seeds_says_how_many() -> None:
    records = [one for seed in (0, 1, 2) for one in made.simple("a", 0.5, 0.3, seed=0)]
    again = [record.model_copy(update={"seed": seed, "key": f"{at:064x}"})
             for at, (seed, record) in enumerate(zip((0, 0, 1, 1, 2, 2), records, strict=True))]  # fmt: skip
    section = section_of(again)
    assert verdict.seeds(section.rows[0], section) == "3 seeds."
    assert "one seed" not in [one.words for one in verdict.warnings(section.rows[0], section)[""]]


def test_a_warning_stands_under_the_number_that_it_concerns() -> None:
    early = {"steps": 28, "validation": [[0, 0.2], [28, 0.1]]}
    records = [
        made.utility("a", "dlib_resnet", 0.5, draws=made.around(0.5, 0.01)),
        made.appearance("a", "unet", {"lpips": 0.3}, attack_config={"steps": 60}, log=early),
        made.identity("a", "linkage", "dlib_resnet", 0.4),
    ]
    section = section_of(records)
    warned = verdict.warnings(section.rows[0], section)
    assert [one.words for one in warned["appearance"]] == ["attack stopped at 28 of 60: upper bound"]
    assert not warned["identity"] and not warned["retention"]
    assert [one.words for one in warned[""]] == ["one seed"]


@pytest.mark.parametrize("suite", ["template_quick", "template_lfw_quick"])
def test_a_matcher_that_stores_plain_templates_is_warned_of_under_the_first_privacy(suite: str) -> None:
    store = ResultStore(Path(__file__).parents[2] / "results")
    plan = store.plan(suite)
    assert plan is not None
    (section,) = Board(suite, tuple(store.records(suite)), plan).sections
    warned = {row.defense: verdict.warnings(row, section)["irreversibility"] for row in section.rows}
    in_clear = {
        name for name, found in warned.items() if "the matcher stores plain templates" in {w.words for w in found}
    }
    assert in_clear == {"cryptomask", "ckks_cosine"}


@pytest.mark.parametrize(("leakage", "warned"), [(0.9, True), (1.0, False)])
def test_a_privacy_of_which_nothing_is_left_is_no_upper_bound(leakage: float, warned: bool) -> None:
    early = {"steps": 28, "validation": [[0, 0.2], [28, 0.1]]}
    records = [
        made.utility("a", "dlib_resnet", 0.5, draws=made.around(0.5, 0.01)),
        made.appearance("a", "unet", {"lpips": leakage}, attack_config={"steps": 60}, log=early),
    ]
    section = section_of(records)
    assert bool(verdict.warnings(section.rows[0], section)["appearance"]) is warned
    assert [one.flag for one in verdict.flags(section.rows[0], section)] == ["attack_stopped_early"]


def test_a_warning_names_what_has_raised_it_by_its_title_and_not_more_than_a_few() -> None:
    records = [made.utility("a", "dlib_resnet", 0.5)]
    records += [made.identity("a", "linkage", f"one_{at}", 0.4, flags=("trusted",)) for at in range(8)]
    section = section_of(records)
    (one,) = verdict.flags(section.rows[0], section)
    assert (one.words, one.flag) == ("ran without the sandbox", "trusted")
    assert one.where.startswith("raised by Linkage to a clear gallery / one_0; ")
    assert one.where.endswith(" / one_4; and 3 others")


def test_a_table_opens_with_three_sentences_made_of_its_numbers() -> None:
    records = [*attacked("good", 0.1, 0.97), *attacked("poor", 0.8, 0.97), *attacked("worse", 0.9, 0.97)]
    section = section_of(records)
    (what, hidden), (whom, taken), (how, surely) = verdict.table_verdict(section)
    assert (what, whom, how) == ("What is hidden", "From whom", "How surely")
    least = verdict.lower(row_of(section, "good").privacies["appearance"].estimate)
    assert (
        hidden.startswith("Of 3 ranked defenses, Good has the best score") and f"at least {at_least(least)}" in hidden
    )
    title = section.attack_titles["unet"]
    assert taken.startswith(
        f"2 attacks were run; “{title}” recovers most of the first row, but identity is not hidden: "
    )
    assert title == "U-Net inversion"
    assert "a retrained recognizer names 97 of 100" in taken
    assert surely.startswith("With 95% confidence no other defense can be first; all was measured with one seed")


def test_settings_of_one_method_are_told_apart_by_what_differs() -> None:
    records = []
    for label, strength in (("mosaic", 0.35), ("mosaic_70", 0.7)):
        component = Component(label=label, name="mosaic", version=1, config={"strength": strength, "soft": 1})
        records += [one.model_copy(update={"defense": component}) for one in made.simple(label, 0.5, 0.3)]
    records += made.simple("alone", 0.5, 0.3)
    section = section_of(records)
    titles = {row.defense: verdict.full_title(row, section) for row in section.rows}
    assert titles == {"mosaic": "Mosaic, strength 0.35", "mosaic_70": "Mosaic 70, strength 0.7", "alone": "Alone"}


def test_other_tracks_speak_of_their_own_numbers() -> None:
    """The committed boards of the other tracks: every ranked row has the words of its track and no others."""
    store = ResultStore(Path(__file__).parents[2] / "results")
    for suite, words in (("template_quick", "Face and name hidden: "), ("cloak_quick", "Hidden from recognizers: ")):
        for section in pages.load_board(store, suite).sections:
            for row in section.rows:
                assert row.control or verdict.row_verdict(row, section).startswith(words)


# From a number to its records --------------------------------------------------------------------------------------


def test_the_records_behind_a_number_are_those_of_its_cells() -> None:
    section = section_of(attacked("a", 0.3, 0.6))
    row = section.rows[0]
    keys = {cell.title: cell.key for cell in row.cells}
    titles = section.attack_titles
    assert [one.key for one in trace.sources(row, "retention", titles)] == [keys["utility / dlib_resnet"]]
    assert trace.sources(row, "appearance_privacy", titles) == [("U-Net inversion, LPIPS", keys["unet"])]
    assert {one.key for one in trace.sources(row, "score", titles)} == set(keys.values())


def test_what_is_kept_leads_to_the_recognizers_that_it_is_the_mean_of() -> None:
    """Not to the surrogate; and of a representation to the recognizer that was fine-tuned, the others beside it."""

    def kept(column: str, *more: Record, **track: str) -> list[str]:
        found = [*made.simple("a", 0.9, 0.5, **track), made.utility("a", "faceplugin", 0.7, surrogate=True, **track)]
        return [one.title for one in trace.sources(section_of([*found, *more]).rows[0], column, {})]

    assert kept("retention") == ["utility / dlib_resnet"]
    of = {"track": "representation"}
    tuned = made.utility("a", "faceplugin_adapted", 0.8, surrogate=True, adapted=True, **of)
    assert kept("retention", tuned, **of) == ["utility / faceplugin_adapted"]
    assert kept("black_box_retention", tuned, **of) == kept("retention", **of) == ["utility / dlib_resnet"]


def test_a_row_can_be_cited(tmp_path: Path) -> None:
    records = attacked("a", 0.3, 0.6)
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/defenses/a.html").read_text()
    board = Board("quick", tuple(records), made.plan_of(records))
    (section,) = board.sections
    cited = trace.citation(board, section, section.rows[0])
    by = "by unet (U-Net inversion, LPIPS)"
    for said in ("retention 0.90 [0.88, 0.92]", by, "seed 0", "commit 0123456789ab", "rank 1 of 1", section.revision):
        assert said in cited.sentence
    assert set(cited.keys) == {record.key for record in records}
    assert cited.bibtex.startswith("@misc{ppfr-bench-quick-synthetic-a,") and cited.bibtex.count(
        "{"
    ) == cited.bibtex.count("}")
    for key in cited.keys:
        assert f"ppfr-bench show {key[:12]}" in page
    assert cited.bibtex.splitlines()[0] in page


def test_year_and_address_of_a_citation_are_those_of_the_citation_file(tmp_path: Path) -> None:
    records = attacked("a", 0.3, 0.6)
    board = Board("quick", tuple(records), made.plan_of(records))
    (section,) = board.sections
    empty = trace.citation(board, section, section.rows[0], {})
    assert empty.unfilled == ("date-released", "url") and "year = {n.d.}," in empty.bibtex and "url" not in empty.bibtex
    place = tmp_path / "CITATION.cff"
    place.write_text('# url: "https://no.example"\nurl: "https://example.org/b_1"\ndate-released: 2026-11-29\n')
    filled = trace.citation(board, section, section.rows[0], trace.publication(place))
    assert filled.unfilled == () and "  year = {2026}," in filled.bibtex
    assert "  url = {https://example.org/b_1}," in filled.bibtex and "no.example" not in filled.bibtex


def test_the_citation_file_has_fields_to_fill_in() -> None:
    text = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^(# )?url: ", text, re.M) and re.search(r"^(# )?date-released: ", text, re.M)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d|https?://\S+", value) for value in trace.publication().values())


def test_what_is_told_of_all_releases_is_what_the_table_tells() -> None:
    """One number has one interval, wherever it stands."""
    records, _ = made.quick()
    records += [made.appearance("pixelate", "averaging", {"lpips": 0.7}, draws={"lpips": made.around(0.7, 0.02, 3)},
                                attack_config={"releases": 4}, log={"shots": 4})]  # fmt: skip
    section = section_of(records)
    row = row_of(section, "pixelate")
    assert len(section.shots) == 2
    for name in section.privacies:
        assert section.against(row, name)[-1].interval == row.privacies[name].estimate.interval


def test_what_only_other_suites_measure_is_named(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for suite, labels in (("quick", ("a",)), ("standard", ("a", "b"))):
        records = [one for label in labels for one in made.simple(label, 0.5, 0.3, suite=suite)]
        for record in records:
            store.write(record)
        store.write_plan(made.plan_of(records))
    (section,) = pages.load_board(store, "quick").sections
    assert section.unmeasured == ("b (in standard)",)
    assert pages.load_board(store, "standard").sections[0].unmeasured == ()
