"""``det.png`` and ``.svg``: false non-matches against false matches, of the recognizers that nobody trained on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.inline_plots import RATES, deviate
from ppfr_bench.leaderboard.publishers._numbers import joined
from ppfr_bench.leaderboard.publishers._plot import CURVE_MARKERS, SIDE, Panel, Plot, Theme, name_ends, titles
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.records.curves import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 6  # So many rows, the first of their table, have a colour and their name.
TOGETHER = 0.03  # Curves without a name that end so near each other share a label; of the height of a panel.
STEP = 11.0  # Between two labels, in points.
LOW, HIGH = -0.03, 1.03  # Ends of the upright axis.


class DetPlot(Plot):
    """A curve for each defense."""

    stem = "det"
    name = "det.*"
    order = 15
    height = 0.9 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table whose records hold curves, and a column for each of its recognizers."""
        found = [section for section in board.sections if section.curves]
        return [
            Panel(
                row, column, partial(_draw, section, recognizer, curves, len(found) > 1),
                partial(_label, section, curves),
            )
            for row, section in enumerate(found)
            for column, (recognizer, curves) in enumerate(section.curves.items())
        ]  # fmt: skip


def _draw(
    section: Section, recognizer: str, curves: list[tuple[Row, Curves]], titled: bool, axes: Axes, theme: Theme
) -> None:  # fmt: skip
    for row, found in curves:
        xs, ys = zip(*((deviate(fmr), deviate(fnmr)) for fmr, fnmr in found.det), strict=True)
        at = section.number(row) - 1
        named = at < NAMED
        axes.plot(
            xs, ys, color=theme.curves[at % len(theme.curves)] if named else theme.kinds["control"],
            marker=CURVE_MARKERS[at % len(CURVE_MARKERS)] if named else None, markersize=3.5,
            linewidth=1.8 if named else 0.9, alpha=1.0 if named else 0.6, zorder=3 if named else 2,
            linestyle=(0, (4, 2)) if row.control else "-",
        )  # fmt: skip
    ticks, shares = [deviate(rate) for rate in RATES], [f"{100 * rate:g}%" for rate in RATES]
    axes.set_xticks(ticks, shares)
    axes.set_yticks(ticks, shares)
    axes.set_xlim(_left(curves) - 0.64, 1.02)
    axes.set_ylim(LOW, HIGH)
    titles(axes, theme, section if titled else None, f"false match rate of {recognizer}", "false non-match rate")


def _label(section: Section, curves: list[tuple[Row, Curves]], axes: Axes, theme: Theme) -> None:
    """Beside the end of each curve, where fewest impostors are accepted, the number of its row; of some the name."""
    ends: list[tuple[float, float, str]] = []
    pale: list[tuple[float, float, int]] = []
    for row, found in curves:
        x, y = (deviate(rate) for rate in found.det[-1])
        number = section.number(row)
        if number <= NAMED:
            ends.append((x, y, f"{number} {row.defense}"))
        else:
            pale.append((y, x, number))
    for group in _together(sorted(pale)):
        y, x, _ = group[len(group) // 2]
        ends.append((x, y, joined([number for _, _, number in group])))
    high = 72 * axes.bbox.height / axes.figure.dpi
    name_ends(axes, theme, ends, _left(curves) - 0.07, STEP / high * (HIGH - LOW), leftwards=True)


def _left(curves: list[tuple[Row, Curves]]) -> float:
    """Where the longest curve ends."""
    return min(deviate(found.det[-1][0]) for _, found in curves)


def _together(pale: list[tuple[float, float, int]]) -> list[list[tuple[float, float, int]]]:
    groups: list[list[tuple[float, float, int]]] = []
    for one in pale:
        if groups and one[0] - groups[-1][0][0] < TOGETHER:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


PUBLISHER = DetPlot
