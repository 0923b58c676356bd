"""``releases.png`` and ``.svg``: privacy against the number of releases that an attacker holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.losses import along_releases, losing
from ppfr_bench.leaderboard.publishers._plot import SIDE, Panel, Plot, Theme, titles
from ppfr_bench.leaderboard.text import plain, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ReleasesPlot(Plot):
    """A line for each defense."""

    stem = "releases"
    name = "releases*"
    order = 12
    height = 0.6 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table that was attacked with several releases, and a column for each privacy."""
        found = [section for section in board.sections if section.shots]
        return [
            Panel(
                row, column, partial(_draw, section, privacy, len(found) > 1), partial(_label, section, privacy)
            )
            for row, section in enumerate(found)
            for column, privacy in enumerate(section.privacies)
        ]  # fmt: skip


def _draw(section: Section, privacy: str, titled: bool, axes: Axes, theme: Theme) -> None:
    ticks = range(len(section.shots))
    names = losing(section, privacy)
    for row, values in along_releases(section, privacy):
        falls = row.defense in names
        axes.plot(ticks, values, color=theme.kinds["on the front"] if falls else theme.kinds["control"],
                  linewidth=1.8 if falls else 0.8, alpha=1.0 if falls else 0.4, marker="o" if falls else None,
                  markersize=4.5, zorder=3 if falls else 2)  # fmt: skip
    axes.set_xticks(list(ticks), [str(count) for count in section.shots])
    axes.set_xlim(-0.15, len(section.shots) - 0.35)
    axes.set_ylim(-0.04, 1.04)
    across = "releases of each target held, at most"
    titles(axes, theme, section if titled else None, across, f"{words(privacy)} privacy")


def _label(section: Section, privacy: str, axes: Axes, theme: Theme) -> None:
    """Names at the right ends of the lines that fall, moved apart."""
    names = losing(section, privacy)
    named = [(values[-1], row) for row, values in along_releases(section, privacy) if row.defense in names]
    lowest = -1.0
    for value, row in sorted(named, key=lambda one: (one[0], one[1].defense)):
        lowest = max(value, lowest + 0.05)
        axes.text(len(section.shots) - 0.93, lowest, plain(row.defense, 32), color=theme.ink, fontsize=8.5,
                  va="center")  # fmt: skip


PUBLISHER = ReleasesPlot
