"""``settings.png`` and ``.svg``: what one defense keeps and hides at several values of one parameter."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.dials import Dial
from ppfr_bench.leaderboard.publishers._plot import (
    CURVE_MARKERS,
    SIDE,
    Name,
    Panel,
    Plot,
    Theme,
    cross,
    name_points,
    titles,
)
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import plain, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SettingsPlot(Plot):
    """A curve for each dial."""

    stem = "settings"
    name = "settings*"
    order = 11
    height = 0.75 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table that has a dial, and a column for each privacy that was attacked."""
        found = [section for section in board.sections if section.dials]
        return [
            Panel(
                row, column, partial(_draw, section, privacy, len(found) > 1), partial(_label, section, privacy)
            )
            for row, section in enumerate(found)
            for column, privacy in enumerate(section.privacies)
            if any(_along(dial, privacy) for dial in section.dials)
        ]  # fmt: skip


def _draw(section: Section, privacy: str, titled: bool, axes: Axes, theme: Theme) -> None:
    assert section.rules is not None, "a table with rows has a track"
    ends = [0.0, 1.0]
    for at, dial in enumerate(section.dials):
        colour, points = theme.curves[at % len(theme.curves)], _along(dial, privacy)
        for point, row in points:
            cross(axes, point, row.retention.interval, row.privacies[privacy].estimate.interval, colour)
            ends += row.retention.interval or (point[0],)
        axes.plot([x for (x, _), _ in points], [y for (_, y), _ in points], color=colour, linewidth=1.4, zorder=3,
                  linestyle="-" if dial.ordered else ":", marker=CURVE_MARKERS[at % len(CURVE_MARKERS)],
                  markersize=6, markeredgecolor=theme.page, label=plain(dial.title, 60))  # fmt: skip
    axes.set_xlim(min(ends) - 0.06, max(ends) + 0.06)
    axes.set_ylim(-0.1 - 0.07 * len(section.dials), 1.08)  # The names of the curves stand below all points.
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    across = f"{section.rules.axes()[0]} →"
    titles(axes, theme, section if titled else None, across, f"{words(privacy)} privacy: what no attack recovers →")
    axes.legend(loc="lower left", frameon=False, labelcolor=theme.ink).set_zorder(1)


def _label(section: Section, privacy: str, axes: Axes, theme: Theme) -> None:
    """The value at each point, in the colour of its curve."""
    name_points(axes, theme, [
        Name(plain(dial.value(row), 16), point, theme.curves[at % len(theme.curves)], must=True)
        for at, dial in enumerate(section.dials)
        for point, row in _along(dial, privacy)
    ])  # fmt: skip


def _along(dial: Dial, privacy: str) -> list[tuple[tuple[float, float], Row]]:
    """The points of a dial, in the order of its values, as far as they have the privacy."""
    found = [(row.retention.value, row.privacies[privacy].estimate.value, row) for row in dial.rows]
    return [((x, y), row) for x, y, row in found if x is not None and y is not None]


PUBLISHER = SettingsPlot
