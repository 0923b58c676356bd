"""What papers print of a method, from ``published.toml``, to stand beside what was measured here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from ppfr_bench.cards import Config
from ppfr_bench.leaderboard.rows import Cell, Figure, Row


class Reported(Config):
    """A figure as it was printed, of what, and by whom."""

    figure: str
    of: str
    source: str


class Claims(Config):
    """What is published of one method: ``accuracy`` in per cent, ``ssim`` of a reconstruction, the best ``attack``."""

    accuracy: Reported | None = None
    ssim: Reported | None = None
    attack: Reported | None = None


@cache
def claims() -> dict[str, Claims]:
    """By the name of the plug-in."""
    path = Path(__file__).with_name("published.toml")
    return {name: Claims(**found) for name, found in tomllib.loads(path.read_text(encoding="utf-8")).items()}


@dataclass(frozen=True)
class Beside:
    """A row of a table and what is published of its method."""

    row: Row
    published: Claims

    @property
    def accuracy(self) -> Figure:
        """Of the recognizer that was fine-tuned on it, or else the mean of the unseen ones; a share."""
        uses = [use for use in self.row.utilities if use.adapted] or [use for use in self.row.utilities if not use.mark]
        found = [use.accuracy for use in uses]
        values = [figure.value for figure in found if figure.value is not None]
        if not found or len(values) < len(found):
            return Figure(None, reason="not measured")
        return found[0] if len(found) == 1 else Figure(fmean(values), n=found[0].n)

    @property
    def worst(self) -> Cell | None:
        """The cell that regains the most of who it is."""
        cells = [c for c in self.row.cells if c.measures == "identity" and c.worst.value is not None]
        return max(cells, key=lambda cell: cell.worst.value or 0.0, default=None)


def beside(rows: tuple[Row, ...]) -> list[Beside]:
    """Of the rows whose method something is published of, by label; a label of its own stands for other settings."""
    found = [Beside(row, claims()[row.name]) for row in rows if row.name == row.defense and row.name in claims()]
    return sorted(found, key=lambda one: one.row.defense)
