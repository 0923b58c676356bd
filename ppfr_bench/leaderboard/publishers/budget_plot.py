"""``budget.png`` and ``.svg``: what leaks against what the attacker spends, and what twice as much might give."""

from __future__ import annotations

from functools import partial
from math import log2
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.losses import rising
from ppfr_bench.leaderboard.publishers._plot import SIDE, Panel, Plot, Theme, name_ends, titles
from ppfr_bench.leaderboard.text import words
from ppfr_bench.leaderboard.titles import measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 0.125  # Smaller shares of a budget are not drawn.


class BudgetPlot(Plot):
    """A line for each defense, of the attack that sets its privacy."""

    stem = "budget"
    name = "budget*"
    order = 13
    height = 0.6 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table with such curves, and a column for each privacy that has some."""
        found = [section for section in board.sections if section.budgets]
        return [
            Panel(row, column, partial(_draw, section, privacy, len(found) > 1), partial(_label, section, privacy))
            for row, section in enumerate(found)
            for column, privacy in enumerate(section.budgets)
        ]


def _draw(section: Section, privacy: str, titled: bool, axes: Axes, theme: Theme) -> None:
    named = rising(section, privacy)
    for row, curve in section.budgets[privacy]:
        rises = row.defense in named
        points = [(log2(share), end) for share, end in zip(curve.shares, curve.ends, strict=True) if share >= _LEAST]
        colour = theme.kinds["on the front" if rises else "control"]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8 if rises else 0.8,
                  alpha=1.0 if rises else 0.4, marker="o" if rises else None, markersize=4.5,
                  zorder=3 if rises else 2)  # fmt: skip
        if rises:
            more = min(1.0, curve.ends[-1] + (curve.last_doubling or 0.0))
            axes.fill_between(
                [0, 1], [curve.ends[-1]] * 2, [curve.ends[-1], more], color=colour, alpha=0.25, linewidth=0
            )
    axes.axvline(0, color=theme.ink, linewidth=0.6, alpha=0.5)
    axes.set_xticks([-2, -1, 0, 1], ["1/4", "1/2", "all", "twice"])
    axes.set_xlim(-2.2, 2.5)
    axes.set_ylim(-0.04, 1.04)
    across = "share of the attacker's budget"
    by = ", ".join(sorted({measured(curve.measure) for _, curve in section.budgets[privacy]}))
    titles(axes, theme, section if titled else None, across, f"leakage that sets {words(privacy)} privacy\n{by}")


def _label(section: Section, privacy: str, axes: Axes, theme: Theme) -> None:
    """Names of the lines that still rise."""
    named = rising(section, privacy)
    ends = [
        (0.0, curve.ends[-1], f"{section.number(row)} {row.defense}")
        for row, curve in section.budgets[privacy] if row.defense in named
    ]  # fmt: skip
    name_ends(axes, theme, ends, 1.05, 0.05)


PUBLISHER = BudgetPlot
