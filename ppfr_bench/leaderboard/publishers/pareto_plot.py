"""``pareto.png`` and ``.svg``: what recognizers keep against what attackers regain."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers._numbers import Numbered, number_points
from ppfr_bench.leaderboard.publishers._plot import MARKERS, Panel, Plot, Theme, cross, kind_of, point_of, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ParetoPlot(Plot):
    """The two numbers that the track trades between."""

    stem = "pareto"
    name = "pareto*"
    order = 10

    def panels(self, board: Board) -> list[Panel]:
        """One a table that has a point to draw."""
        found = [section for section in board.sections if any(row.drawable for row in section.rows)]
        return [
            Panel(0, at, partial(_draw, section, len(found) > 1), partial(_label, section))
            for at, section in enumerate(found)
        ]


def _draw(section: Section, titled: bool, axes: Axes, theme: Theme) -> None:
    assert section.rules is not None, "a table with rows has a track"
    rows = [row for row in section.rows if row.drawable]
    points = [(*point_of(row), row) for row in rows]
    for x, y, row in points:
        cross(axes, (x, y), row.point[0].interval, row.point[1].interval, theme.kinds[kind_of(row)])
    for name in dict.fromkeys(row.name for row in rows if row.live):
        dial = sorted((x, y) for x, y, row in points if row.name == name)
        if len(dial) > 2:  # A line joins the settings of one plug-in.
            axes.plot([x for x, _ in dial], [y for _, y in dial], color=theme.faint, linewidth=0.9, zorder=2)
    front = sorted((x, -y) for x, y, row in points if row.front)
    if len(front) > 1:
        axes.plot([x for x, _ in front], [-y for _, y in front], color=theme.kinds["on the front"], linewidth=1.4,
                  linestyle=(0, (5, 3)), zorder=3)  # fmt: skip
    for kind, marker in MARKERS.items():
        mine = [(x, y) for x, y, row in points if kind_of(row) == kind]
        if mine:
            axes.plot(*zip(*mine, strict=True), marker, color=theme.kinds[kind], label=kind, markersize=6.5,
                      markeredgecolor=theme.page, markeredgewidth=0.9, zorder=4)  # fmt: skip
    xs = [0.0, 1.0] + [end for x, _, row in points for end in (x, *(row.point[0].interval or ()))]
    axes.set_xlim(min(xs) - 0.06, max(xs) + 0.06)
    axes.set_ylim(-0.06, 1.08)
    across, up = section.rules.axes()
    titles(axes, theme, section if titled else None, f"{across} →", f"{up} →")
    legend = axes.legend(loc="best", frameon=False, title=None, labelcolor=theme.ink)
    legend.set_zorder(1)


def _label(section: Section, axes: Axes, theme: Theme) -> None:
    """At each point the number of its row in the table."""
    rows = [row for row in section.rows if row.drawable]
    number_points(axes, theme, [Numbered(section.number(row), point_of(row)) for row in rows])


PUBLISHER = ParetoPlot
