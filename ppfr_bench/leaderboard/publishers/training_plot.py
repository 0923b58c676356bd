"""``training.png`` and ``.svg``: an attacker's error as it trains, by steps: what a larger budget might buy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.losses import gaining
from ppfr_bench.leaderboard.publishers._plot import SIDE, Panel, Plot, Theme, name_ends, titles
from ppfr_bench.leaderboard.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TrainingPlot(Plot):
    """A line for each defense, of the attack that trains longest."""

    stem = "training"
    name = "training*"
    order = 14
    height = 0.75 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """One a table in which an attack kept the curve of its training."""
        found = [section for section in board.sections if section.longest]
        return [
            Panel(0, at, partial(_draw, section, len(found) > 1), partial(_label, section))
            for at, section in enumerate(found)
        ]


def _draw(section: Section, titled: bool, axes: Axes, theme: Theme) -> None:
    named = gaining(section)
    for row, training in section.trainings:
        gains = row.defense in named
        steps, errors = zip(*training.error, strict=True)
        colour = theme.kinds["on the front" if gains else "control"]
        axes.plot(steps, errors, color=colour, linewidth=1.6 if gains else 0.8, alpha=1.0 if gains else 0.4)
        end = theme.kinds["incomplete"] if training.early else colour
        axes.plot(steps[-1:], errors[-1:], color=end, marker="X" if training.early else "o",
                  markersize=6 if training.early else 3.5, alpha=1.0 if gains or training.early else 0.4,
                  zorder=3)  # fmt: skip
    most = max(training.allowed for _, training in section.trainings)
    axes.set_xlim(-0.02 * most, 1.75 * most)  # Names stand beyond the last step.
    axes.set_xticks(sorted({round(most * quarter / 4) for quarter in range(5)}))
    axes.set_ylim(0, 1.04)
    titles(
        axes,
        theme,
        section if titled else None,
        f"steps of training, {plain(section.attack_titles.get(section.longest, section.longest), 48)}",
        "error on held-out people, of the first answer's",
    )


def _label(section: Section, axes: Axes, theme: Theme) -> None:
    """Names of the lines that fall most."""
    named = gaining(section)
    most = max(training.allowed for _, training in section.trainings)
    ends: list[tuple[float, float, str]] = [
        (*training.error[-1], f"{section.number(row)} {row.defense}")
        for row, training in section.trainings if row.defense in named
    ]  # fmt: skip
    name_ends(axes, theme, ends, 1.04 * most, 0.045)


PUBLISHER = TrainingPlot
