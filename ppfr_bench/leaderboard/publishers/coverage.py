"""``coverage.html``: what ran, was skipped or failed, and why; and which records are of no cell of the plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import CellState, Row

MEANINGS: dict[CellState, str] = {
    "failed": "It ended with an error.",
    "skipped": "Something that it needs is not here.",
    "unmeasured": "It ran, and one of its numbers could not be told.",
    "broken": "The attack recovers nothing even without a defense, so it says nothing of any defense. A row is "
    "complete without it.",
    "incomparable": "Its record is of other settings, other data or another version than the rest of the table.",
    "missing": "It has not been run.",
}
STATES: tuple[CellState, ...] = ("ok", *MEANINGS)


@dataclass(frozen=True)
class Coverage:
    """What a table is made of, and what gave no number."""

    board: Board
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

    def place(self, row: Row, column: str) -> str:
        """The part of the page of a defense that has the numbers of a column."""
        before = self.board.sections[: self.board.sections.index(self.section)]
        at = 1 + sum(row.defense == other.defense for section in before for other in section.rows)
        return f"t{at}-{'kept' if column == 'utility' else 'regain'}"

    def has_page(self, column: str) -> bool:
        """Whether an attack has a page: answers that ignore the target have none."""
        return any(attack.label == column for attack in self.section.attacks)

    @property
    def measured(self) -> int:
        """Cells with a number."""
        return dict(self.states).get("ok", 0)

    @property
    def gaps(self) -> list[tuple[str, int]]:
        """How many cells without a number are in each state."""
        return [(state, count) for state, count in self.states if state != "ok"]

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
        tables = [Coverage(board, section) for section in board.sections]
        foreign = sorted(board.foreign, key=lambda record: (record.dataset.label, record.title, record.key))
        page = render("coverage.html", root="", board=board, tables=tables, foreign=foreign, meanings=MEANINGS)
        return {self.name: page}


PUBLISHER = CoveragePage
