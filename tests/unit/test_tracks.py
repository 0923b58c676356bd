"""Tracks: which defenses they accept, what they rank by, and a new one from a file outside the package."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import table, terminal
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.pages import publishers
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.record import Component, Record
from ppfr_bench.tracks.base import Privacy, Track, Utility, load_track
from ppfr_bench.tracks.ranking import drawn, harmonic_score, mean_estimate, smallest, standings

TRACKS = registry.names("track")
IMAGES, CHANNELS = (registry.load("defense", name) for name in ("pixelate", "partialface"))

SKETCHES = '''
"""A track of its own."""
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.tracks.base import Retention, Track, UtilityColumn, privacy_column, retention_column, score_column


class Sketches(Track):
    version = 1
    title = "sketch track"
    order = 5
    description = "What is released is a drawing."
    privacies = ("identity",)
    likeness = ()
    headline = "auc"
    headline_title = "AUC on drawings, %"
    utility_columns = (UtilityColumn("auc", "AUC, %", file="value"),)

    def accepts(self, defense):
        return getattr(defense, "draws", False)

    def utilities(self, recognizers, adapted):
        return list(recognizers)[:1]

    def retention(self, utilities):
        return Retention(utilities[0].estimate("auc"))

    def score(self, retention, privacies):
        return Estimate(1 - privacies["identity"].value, draws=tuple(1 - x for x in privacies["identity"].draws))

    def columns(self, privacies):
        return (score_column("What is left of a person."), retention_column("AUC.", "AUC kept"),
                *(privacy_column(name) for name in privacies))


TRACK = Sketches
'''


@pytest.fixture
def sketches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A track given with --plugin, for the length of a test."""
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    path = tmp_path / "sketches.py"
    path.write_text(SKETCHES, encoding="utf-8")
    registry.add_plugin(path)
    yield "sketches"
    del sys.modules["ppfr_bench.plugins.sketches"]


# The contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRACKS)
def test_a_track_is_titled_described_and_in_an_order_of_its_own(name: str) -> None:
    track = load_track(name)
    assert track.title and track.description.endswith(".")
    assert [load_track(other).order for other in TRACKS].count(track.order) == 1
    assert track.headline in [column.name for column in track.utility_columns]
    columns = track.columns(track.privacies)
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.description.endswith(".") for column in columns)
    assert {f"{privacy}_privacy" for privacy in track.privacies} <= {column.name for column in columns}


@pytest.mark.parametrize("released", [IMAGES, CHANNELS], ids=["images", "channels"])
def test_every_release_belongs_to_one_of_our_tracks(released: Any) -> None:
    assert sum(load_track(name).accepts(released) for name in TRACKS if load_track(name).general) == 1


def test_a_track_needs_no_torch() -> None:
    """Pages are written where nothing is measured."""
    modules = ", ".join(f"ppfr_bench.tracks.{name}" for name in TRACKS)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_track_is_an_error_that_says_what_to_type() -> None:
    with pytest.raises(UserError, match="track 'imago'") as error:
        load_track("imago")
    assert "--plugin" in error.value.hint and "'image'" in error.value.hint
    assert load_track("recognition").title == "image track", "what version 0.1 called it"


def test_recognizers_that_measure_utility() -> None:
    one, two, adapted = (Component(label=label, name=label, version=1) for label in ("one", "two", "two_adapted"))
    assert load_track("image").utilities([one, two], adapted) == [one, two]
    assert load_track("representation").utilities([one, two], adapted) == [one, two, adapted]
    assert load_track("representation").utilities([one, two], None) == [one, two]


# Retention and score -----------------------------------------------------------------------------------------------


def used(recognizer: str, retention: float | None, draws: tuple[float, ...] = (), **more: Any) -> Utility:
    measured = {"retention": made.value(retention, draws, reason="clear is at chance")}
    return Utility(recognizer, metrics=measured, key=recognizer, **more)


def test_an_image_keeps_what_unseen_recognizers_keep() -> None:
    track = load_track("image")
    uses = [used("one", 0.9, (0.8, 1.0)), used("two", 0.5, (0.4, 0.8)), used("three", 0.1, surrogate=True)]
    found = track.retention(uses)
    assert found.beside is None and found.estimate.value == pytest.approx(0.7)
    assert found.estimate.draws == pytest.approx((0.6, 0.9)) and found.estimate.key == ""
    failed = used("two", None, state="unmeasured")
    assert track.retention([uses[0], failed]).estimate.reason == "over 1 of 2 unseen recognizers"
    assert track.retention([failed]).estimate.value is None
    assert "surrogate" in track.retention(uses[2:]).estimate.reason


def test_a_representation_keeps_what_the_fine_tuned_recognizer_keeps() -> None:
    track = load_track("representation")
    adapted = used("two_adapted", 0.8, (0.7, 0.9), surrogate=True, adapted=True)
    found = track.retention([used("one", 0.1), adapted])
    assert found.estimate.value == 0.8 and found.estimate.key == "two_adapted"
    assert found.beside is not None and found.beside.value == pytest.approx(0.1)
    missing = track.retention([used("one", 0.1), used("x", None, state="missing", adapted=True)])
    assert missing.estimate.value is None and missing.beside is not None
    assert track.retention([used("one", 0.1)]).estimate.value == pytest.approx(0.1)


def test_the_score_is_the_harmonic_mean_draw_by_draw() -> None:
    kept, hidden = Estimate(1.2, n=9, draws=(1.1, 0.5)), Estimate(0.5, n=7, draws=(0.5, 0.25))
    score = harmonic_score(kept, hidden)
    assert score.value == pytest.approx(2 * 1 * 0.5 / 1.5) and score.n == 7
    assert score.draws == pytest.approx((2 * 1 * 0.5 / 1.5, 2 * 0.5 * 0.25 / 0.75))
    assert harmonic_score(kept, Estimate(0.5)).draws == ()
    assert "nobody looked" in harmonic_score(kept, Estimate(None, reason="nobody looked")).reason


def test_an_interval_holds_its_value() -> None:
    assert drawn(0.5, np.asarray([0.6, 0.8]), 1).interval == (0.5, pytest.approx(0.795))
    assert drawn(0.5, None, 1).interval is None
    assert mean_estimate([Estimate(0.2, draws=(0.1,)), Estimate(0.4)]).draws == (), "one of them has no draws"


def test_equal_rows_share_a_rank_and_no_row_is_none() -> None:
    point = (Estimate(0.5), Estimate(0.5))
    high, low = (Estimate(x, draws=(x - 0.01, x + 0.01, x)) for x in (0.55, 0.15))
    found = standings([[high], [high], [low]], [point, point, (Estimate(0.4), Estimate(0.4))])
    assert [(one.rank, one.interval, one.front) for one in found] == [
        (1, (1, 2), True), (1, (1, 2), True), (3, (3, 3), False)
    ]  # fmt: skip
    assert standings([], []) == []


shares = st.floats(0, 1, allow_nan=False)
rows_of_shares = st.lists(
    st.lists(st.tuples(shares, st.floats(0, 0.2)), min_size=1, max_size=4), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_shares, seed=st.integers(0, 2**31))
def test_a_rank_lies_in_its_interval_and_a_share_in_its_limits(
    rows: list[list[tuple[float, float]]], seed: int
) -> None:
    """Whatever the numbers: and no row that scores less is called significantly better."""
    random = np.random.default_rng(seed)
    scores = [
        [Estimate(x, n=60, draws=tuple((x + error * random.standard_normal(50)).tolist())) for x, error in row]
        for row in rows
    ]
    values = [min(one.value for one in row if one.value is not None) for row in scores]
    found = standings(scores, [(Estimate(0.5), Estimate(value)) for value in values])
    for value, standing in zip(values, found, strict=True):
        low, high = standing.interval
        assert 1 <= low <= standing.rank <= high <= len(rows)
        assert standing.rank == 1 + sum(other > value for other in values)
    for row, value in zip(scores, values, strict=True):
        least = smallest(row)
        assert least.value == value and least.interval is not None
        assert 0 <= least.interval[0] <= value <= least.interval[1] <= 1


def test_limits_of_one_share_are_those_of_students_t() -> None:
    random = np.random.default_rng(0)
    draws = 0.5 + 0.02 * random.standard_normal(200)
    error = float(np.std(draws, ddof=1))
    assert smallest([Estimate(0.5, n=60, draws=tuple(draws.tolist()))]).interval == pytest.approx(
        (0.5 - 2.01 * error, 0.5 + 2.01 * error), abs=0.003
    )


def test_a_share_that_all_draws_agree_on_is_not_known_for_certain() -> None:
    """Of 60 people who all gave the same, three in sixty may be otherwise (rule of three)."""
    low, high = smallest([Estimate(0.0, n=60, draws=(0.0,) * 200)]).interval or (0, 0)
    assert (low, high) == (0.0, pytest.approx(3 / 60, rel=0.05))


def test_a_claim_is_no_narrower_than_the_interval_of_any_number_that_may_set_it() -> None:
    """Near 1 draws differ too little: the exact binomial limits of one number hold for the row as well."""
    few = tuple(np.where(np.arange(200) % 20 == 0, 0.95, 1.0).tolist())
    sure = Estimate(0.99, (0.90, 1.0), 60, draws=few)
    low, high = smallest([sure, Estimate(1.0, (0.95, 1.0), 60, draws=(1.0,) * 200)]).interval or (0, 0)
    assert low == 0.90 and high == 1.0


def test_more_numbers_that_all_draws_agree_on_make_a_claim_weaker() -> None:
    """Of thirty attacks that nobody of 60 fell to, one is as likely to be better in truth as it looks."""
    one = Estimate(0.0, n=60, draws=(0.0,) * 200)
    (_, alone), (_, among) = (smallest([one] * count).interval or (0, 0) for count in (1, 30))
    assert among > 1.3 * alone


# A new one ---------------------------------------------------------------------------------------------------------


def drawings() -> list[Record]:
    """Two defenses of the new track, and one that releases images, on one data set."""
    found: list[Record] = []
    for label, named in (("pencil", 0.2), ("chalk", 0.6)):
        found += [
            made.utility(label, "dlib_resnet", 0.9, track="sketches"),
            made.identity(label, "linkage", "dlib_resnet", named, draws=made.around(named, 0.01), track="sketches"),
        ]
    return [*found, *made.simple("pixelate", 0.5, 0.5)]


def test_a_track_in_a_file_of_its_own_decides_over_its_table(sketches: str) -> None:
    track = load_track(sketches)
    assert sketches in registry.names("track") and not track.general
    assert track.accepts(SimpleNamespace(draws=True)) and not track.accepts(IMAGES)
    records = drawings()
    board = Board("quick", tuple(records), made.plan_of(records))
    section, images = board.sections
    assert (section.heading, images.heading) == ("synthetic, sketch track", "synthetic, image track")
    assert [(row.defense, row.rank) for row in section.rows] == [("chalk", 1), ("pencil", 2)]
    first = section.rows[0]
    assert first.score.value == pytest.approx(0.6) and first.retention == first.utilities[0].estimate("auc")
    assert [column.title for column in section.columns] == ["Score", "AUC kept", "Identity privacy"]
    assert list(images.rows[0].privacies) == ["appearance", "identity"]


def test_its_table_is_headed_as_it_says_on_every_page(sketches: str) -> None:
    records = drawings()
    board = Board("quick", tuple(records), made.plan_of(records))
    files = {path: content for one in publishers() for path, content in one.publish(board).items()}
    page = files["leaderboard.html"].decode()
    for part in ("sketch track", "AUC on drawings, %", "What is released is a drawing.", "AUC kept"):
        assert part in page
    assert "defenses/pencil.html" in files and "attacks/linkage.html" in files
    assert "| rank | defense | score | auc kept | identity privacy | set by |" in files["leaderboard.md"].decode()
    head = files["leaderboard.csv"].decode().splitlines()[0].split(",")
    assert "auc_dlib_resnet" in head and "identity_privacy_set_by" in head
    console = Console(file=io.StringIO(), width=200)
    rows = table.build(records, made.plan_of(records))
    terminal.print_table(rows, console)
    terminal.explain(rows[0], console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "sketch track" in shown and "AUC kept" in shown and "What is left of a person." in shown


def test_a_track_that_does_not_say_what_it_accepts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    path = tmp_path / "half.py"
    text = "from ppfr_bench.tracks.base import Track\n\n\nclass Half(Track):\n    version = 1\n\n\nTRACK = Half\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="does not define accepts"):
        registry.add_plugin(path)


def test_a_privacy_says_what_set_it() -> None:
    assert Privacy(Estimate(0.5), "linkage", "rank_1", "dlib_resnet").set_by == "linkage, rank_1, dlib_resnet"
    assert issubclass(registry.load("track", "image"), Track)
