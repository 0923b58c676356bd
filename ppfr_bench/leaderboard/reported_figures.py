"""What papers print of a method, from ``published.toml``, to stand beside what was measured here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from ppfr_bench.cards import Config
from ppfr_bench.leaderboard.rows import Cell, Estimate, Row, Utility


class ReportedFigure(Config):
    """A figure as it was printed, of what, and by whom."""

    figure: str
    of: str
    source: str


class ReportedFigures(Config):
    """What is published of one method.

    Attributes:
        accuracy: in per cent.
        ssim: of a reconstruction.
        attack: the best that is known; ``privacy``: what it takes; ``leaves``: the most that it leaves of it.
    """

    accuracy: ReportedFigure | None = None
    ssim: ReportedFigure | None = None
    attack: ReportedFigure | None = None
    privacy: str = "identity"
    leaves: float | None = None


@cache
def reported_figures() -> dict[str, ReportedFigures]:
    """By the name of the plug-in."""
    path = Path(__file__).with_name("published.toml")
    return {name: ReportedFigures(**found) for name, found in tomllib.loads(path.read_text(encoding="utf-8")).items()}


@dataclass(frozen=True)
class Comparison:
    """A row of a table and what is published of its method."""

    row: Row
    reported: ReportedFigures

    @property
    def uses(self) -> list[Utility]:
        """Of the recognizer that was fine-tuned on it, or else of the unseen ones."""
        adapted = [use for use in self.row.utilities if use.adapted]
        return adapted or [use for use in self.row.utilities if not use.mark]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """What the accuracy is the mean of: titles, and keys of records."""
        return [(f"utility / {use.recognizer}", use.key) for use in self.uses]

    @property
    def accuracy(self) -> Estimate:
        """The mean of ``uses``; a share."""
        found = [use.estimate("accuracy") for use in self.uses]
        values = [estimate.value for estimate in found if estimate.value is not None]
        if not found or len(values) < len(found):
            return Estimate(None, reason="not measured")
        return found[0] if len(found) == 1 else Estimate(fmean(values), n=found[0].n)

    @property
    def worst(self) -> Cell | None:
        """The cell that takes most of the privacy that the published attack takes."""
        cells = [c for c in self.row.cells if c.sets == self.reported.privacy and c.worst.value is not None]
        return max(cells, key=lambda cell: cell.worst.value or 0.0, default=None)


def refuted(row: Row) -> str:
    """Which published attack takes a privacy that is claimed here; empty if none is known to, or one here takes it too.

    It holds for every setting of a method, as the published one was attacked as its authors set it.
    """
    known = reported_figures().get(row.name)
    if known is None or known.attack is None or known.leaves is None or known.privacy not in row.privacies:
        return ""
    claimed = row.privacies[known.privacy].estimate
    if claimed.value is None or (claimed.interval or (claimed.value,))[0] <= known.leaves:
        return ""
    found = known.attack
    return f"refuted elsewhere: {found.figure} {found.of} ({found.source}), and no attack here reaches that yet"


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """Of the rows whose method something is published of, by label; a label of its own stands for other settings."""
    known = reported_figures()
    found = [Comparison(row, known[row.name]) for row in rows if row.name == row.defense and row.name in known]
    return sorted(found, key=lambda one: one.row.defense)
