"""``price.png`` and ``.svg``: what leaks against what recognizers keep, and the price of utility between them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.price import Price
from ppfr_bench.leaderboard.privacy import hidden
from ppfr_bench.leaderboard.publishers._numbers import Numbered, number_points
from ppfr_bench.leaderboard.publishers._plot import MARKERS, SIDE, Panel, Plot, Theme, cross, kind_of, titles
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import number, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PricePlot(Plot):
    """A point a defense, above or below a line at the price."""

    stem = "price"
    name = "price*"
    order = 14
    height = 0.8 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table, and a column for each privacy, of which the price was measured."""
        found = [section for section in board.sections if section.rows and section.prices]
        return [
            Panel(row, column, partial(_draw, section, price, len(found) > 1), partial(_label, section, price))
            for row, section in enumerate(found)
            for column, price in enumerate(section.prices.values())
        ]


def _draw(section: Section, price: Price, titled: bool, axes: Axes, theme: Theme) -> None:
    assert section.rules is not None and price.estimate.value is not None, "a price is a number of a table with rows"
    colour = theme.curves[1]
    axes.axhline(price.estimate.value, color=colour, linewidth=1.4, linestyle=(0, (5, 3)), zorder=2)
    if price.estimate.interval is not None:
        axes.axhspan(*price.estimate.interval, color=colour, alpha=0.15, linewidth=0, zorder=1)
    points = _points(section, price)
    for kind in MARKERS:
        mine = [(point, row) for point, row in points if kind_of(row) == kind]
        for point, row in mine:
            leaked = hidden(row.privacies[price.privacy].estimate).interval
            cross(axes, point, row.retention.interval, leaked, theme.kinds[kind])
        drawn: dict[str, Any] = {"markersize": 6.5, "markeredgecolor": theme.page, "markeredgewidth": 0.9}
        if mine:
            xs, ys = zip(*(point for point, _ in mine), strict=True)
            axes.plot(xs, ys, MARKERS[kind], color=theme.kinds[kind], label=kind, zorder=4, **drawn)
    ends = [0.0, 1.0, *(x for (x, _), _ in points)]
    axes.set_xlim(min(ends) - 0.06, max(ends) + 0.06)
    axes.set_ylim(-0.06, 1.08)
    axes.annotate(
        f"price of utility {number(price.estimate.value)}", (0.01, price.estimate.value), color=colour, fontsize=8.5,
        xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points", zorder=5,
    )  # fmt: skip
    across = f"{section.rules.axes()[0]} →"
    titles(
        axes, theme, section if titled else None, across, f"{words(price.privacy)} leakage: the largest of any attack"
    )
    if points:
        axes.legend(loc="upper left", frameon=False, labelcolor=theme.ink).set_zorder(1)


def _label(section: Section, price: Price, axes: Axes, theme: Theme) -> None:
    """At each point the number of its row in the table."""
    found = [Numbered(section.number(row), point) for point, row in _points(section, price)]
    number_points(axes, theme, found)


def _points(section: Section, price: Price) -> list[tuple[tuple[float, float], Row]]:
    found = [(row.retention.value, row.privacies[price.privacy].estimate.value, row) for row in section.rows]
    return [((kept, 1 - private), row) for kept, private, row in found if kept is not None and private is not None]


PUBLISHER = PricePlot
