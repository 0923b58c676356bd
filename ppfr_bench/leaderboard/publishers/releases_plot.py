"""``releases.png`` and ``.svg``: privacy against the number of releases that an attacker holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.losses import along_releases, losing
from ppfr_bench.leaderboard.publishers._numbers import joined
from ppfr_bench.leaderboard.publishers._plot import SIDE, Panel, Plot, Theme, name_ends, titles
from ppfr_bench.leaderboard.text import words

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
    ticks = list(range(len(section.shots)))
    names = losing(section, privacy)
    for row, estimates in along_releases(section, privacy):
        falls = row.defense in names
        colour = theme.curves[names.index(row.defense) % len(theme.curves)] if falls else theme.kinds["control"]
        values = [one.value for one in estimates if one.value is not None]
        axes.plot(ticks, values, color=colour, linewidth=1.8 if falls else 0.8, alpha=1.0 if falls else 0.5,
                  marker="o" if falls else None, markersize=4.5, zorder=3 if falls else 2)  # fmt: skip
        ends = [one.interval or (one.value or 0.0, one.value or 0.0) for one in estimates]
        if falls:
            low, high = [end[0] for end in ends], [end[1] for end in ends]
            axes.fill_between(ticks, low, high, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.plot(ticks[-1:] * 2, ends[-1], color=colour, linewidth=2.5, alpha=0.25, solid_capstyle="butt")
    axes.set_xticks(ticks, [str(count) for count in section.shots])
    axes.set_xlim(-0.15, 1.75 * (len(section.shots) - 1))
    axes.set_ylim(-0.04, 1.08)
    across = "releases of each target held, at most"
    titles(axes, theme, section if titled else None, across, f"{words(privacy)} privacy")


def _label(section: Section, privacy: str, axes: Axes, theme: Theme) -> None:
    """The number and name of each line; of steady lines that lie together the numbers."""
    names, last = losing(section, privacy), len(section.shots) - 1
    ends: list[tuple[float, float, str]] = []
    steady: list[tuple[float, int, str]] = []
    for row, estimates in along_releases(section, privacy):
        end = estimates[-1].value
        assert end is not None, "only rows that every attack measured"
        if row.defense in names:
            ends.append((float(last), end, f"{section.number(row)} {row.defense}"))
        else:
            steady.append((end, section.number(row), row.defense))
    for group in _together(sorted(steady)):
        title = f"{group[0][1]} {group[0][2]}" if len(group) == 1 else joined([number for _, number, _ in group])
        ends.append((float(last), group[len(group) // 2][0], title))
    name_ends(axes, theme, ends, 1.06 * last, 0.05)


def _together(steady: list[tuple[float, int, str]]) -> list[list[tuple[float, int, str]]]:
    """Lines that end within 0.04 of the lowest of their group, each with its number and name, in groups."""
    groups: list[list[tuple[float, int, str]]] = []
    for one in steady:
        if groups and one[0] - groups[-1][0][0] < 0.04:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


PUBLISHER = ReleasesPlot
