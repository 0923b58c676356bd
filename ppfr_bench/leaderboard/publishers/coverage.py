"""``coverage.html``: what ran, was skipped or failed, and why; and which records are of no cell of the plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import CellState, Row

STATES: tuple[CellState, ...] = ("ok", "failed", "skipped", "unmeasured", "broken", "incomparable", "missing")


@dataclass(frozen=True)
class Coverage:
    """What a table is made of, and what gave no number."""

    section: Section

    @property
    def columns(self) -> list[str]:
        """``utility``, then the attacks."""
        found = dict.fromkeys(cell.attack or cell.kind for row in self.section.rows for cell in row.cells)
        return sorted(found, key=lambda name: (name != "utility", name))

    def of(self, row: Row, column: str) -> tuple[int, int, str]:
        """Cells with a number, all, and the worst state."""
        cells = [cell for cell in row.cells if (cell.attack or cell.kind) == column]
        states = [cell.state for cell in cells]
        gaps = [state for state in states if state != "ok"]
        worst = min(gaps, key=STATES.index) if gaps else "ok"
        return states.count("ok"), len(states), worst

    @property
    def states(self) -> list[tuple[str, int]]:
        """How many cells are in each state, of those that occur."""
        counts = Counter(cell.state for row in self.section.rows for cell in row.cells)
        return [(state, counts[state]) for state in STATES if counts[state]]

    @property
    def seconds(self) -> float:
        """Of all its cells, each with the stages that it needed."""
        return sum(row.seconds for row in self.section.rows)


class CoveragePage(Publisher):
    """The page of gaps."""

    name = "coverage.html"
    order = 62

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML."""
        tables = [Coverage(section) for section in board.sections]
        foreign = sorted(board.foreign, key=lambda record: (record.dataset.label, record.title, record.key))
        return {self.name: render("coverage.html", root="", board=board, tables=tables, foreign=foreign)}


PUBLISHER = CoveragePage
