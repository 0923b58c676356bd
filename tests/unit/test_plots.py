"""Numbers in plots name the right points: on the committed records of a crowded suite, and anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ppfr_bench.leaderboard import pages
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers import _plot
from ppfr_bench.leaderboard.publishers._numbers import Box, Numbered, joined, number_points
from ppfr_bench.leaderboard.publishers.pareto_plot import ParetoPlot
from ppfr_bench.records.store import ResultStore

SIDES = ((_plot.SIDE, _plot.SIDE), (_plot.NARROW, _plot.NARROW))  # Of a panel on a wide page and on a phone.


@pytest.fixture(scope="module")
def standard() -> Board:
    return pages.load_board(ResultStore(Path(__file__).parents[2] / "results"), "standard")


def numbers_in(words: str) -> list[int]:
    """The numbers of a label such as ``3, 20–23``."""
    found: list[int] = []
    for run in words.split(", "):
        first, _, last = run.partition("–")
        found += range(int(first), int(last or first) + 1)
    return found


def check(axes: Any, points: dict[int, tuple[float, float]]) -> None:
    """Every point has one label, no label is nearer another point than one of its own, and no two labels overlap."""
    renderer = axes.figure.canvas.get_renderer()
    spots = {number: tuple(map(float, axes.transData.transform(point))) for number, point in points.items()}
    seen: list[int] = []
    boxes: list[Box] = []
    for text in axes.texts:
        if not re.fullmatch(r"[\d, –]+", text.get_text()):
            continue
        mine = numbers_in(text.get_text())
        seen += mine
        extent = text.get_window_extent(renderer)
        box = Box(extent.x0, extent.y0, extent.x1, extent.y1)
        own = min(box.away((spots[number][0], spots[number][1])) for number in mine)
        others = [box.away((spot[0], spot[1])) for number, spot in spots.items() if number not in mine]
        assert own < min(others, default=float("inf")), f"label {text.get_text()}"
        assert not any(box.meets(other) for other in boxes), f"label {text.get_text()} covers another"
        boxes.append(box)
    assert sorted(seen) == sorted(points)


@pytest.mark.parametrize(("side", "height"), SIDES)
def test_no_label_of_a_crowded_suite_is_nearer_another_point(side: float, height: float, standard: Board) -> None:
    found = [section for section in standard.sections if any(row.drawable for row in section.rows)]
    panels = ParetoPlot().panels(standard)
    with _plot.plain_style():
        figure = _plot.drawn(panels, side, height)
    assert len(figure.axes) == len(found) == 2
    for axes, section in zip(figure.axes, found, strict=True):
        points = {section.number(row): _plot.point_of(row) for row in section.rows if row.drawable}
        assert len(points) >= 5
        check(axes, points)


@pytest.mark.parametrize(
    ("columns", "places"),
    [([1], [(0, 0)]), ([2, 2], [(0, 0), (0, 1), (1, 0), (1, 1)]), ([3, 1], [(0, 0), (0, 1), (1, 0), (2, 0)])],
)
def test_no_more_than_two_panels_stand_beside_each_other(columns: list[int], places: list[tuple[int, int]]) -> None:
    """Those of a third start a row, and each keeps what it draws and its place in the order."""
    marks = [(lambda axes, theme, at=at: None) for at in range(sum(columns))]
    at = [(row, column) for row, count in enumerate(columns) for column in range(count)]
    panels = [_plot.Panel(*place, mark, mark) for place, mark in zip(at, marks, strict=True)]
    found = _plot.wrapped(panels[::-1])
    assert [(panel.row, panel.column) for panel in found] == places
    assert [panel.draw for panel in found] == marks


def test_the_check_would_notice_a_label_at_another_point(standard: Board) -> None:
    with _plot.plain_style():
        figure = _plot.drawn(ParetoPlot().panels(standard), *SIDES[0])
    section = standard.sections[0]
    points = {section.number(row): _plot.point_of(row) for row in section.rows if row.drawable}
    first, second = (next(text for text in figure.axes[0].texts if text.get_text() == name) for name in ("1", "5"))
    first.set_text("5")
    second.set_text("1")
    with pytest.raises(AssertionError, match="label"):
        check(figure.axes[0], points)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_points_anywhere_have_a_label_each(places: list[tuple[float, float]]) -> None:
    figure = Figure(figsize=(4, 4), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(-0.1, 1.1)
    axes.set_ylim(-0.1, 1.1)
    points = dict(enumerate(places, 1))
    number_points(axes, _plot.LIGHT, [Numbered(number, point) for number, point in points.items()])
    check(axes, points)


@pytest.mark.parametrize(
    ("numbers", "words"), [([3], "3"), ([2, 1], "1, 2"), ([9, 20, 22, 21], "9, 20–22"), ([1, 3, 4], "1, 3, 4")]
)
def test_numbers_that_share_a_label_are_joined(numbers: list[int], words: str) -> None:
    assert joined(numbers) == words
    assert numbers_in(words) == sorted(numbers)


def test_dark_pictures_differ_from_light_ones_by_their_colours_alone() -> None:
    light = "".join(f'<path style="fill: {colour}"/>' for colour in _plot._colours(_plot.LIGHT)).encode()
    dark = "".join(f'<path style="fill: {colour}"/>' for colour in _plot._colours(_plot.DARK)).encode()
    assert _plot.darkened(light) == dark
