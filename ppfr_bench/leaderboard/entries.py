"""A page for every defense, one for every attack, and one of what ran, was skipped or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.html import render
from ppfr_bench.leaderboard.rows import Cell, CellState, Row
from ppfr_bench.leaderboard.samples import defense_grid
from ppfr_bench.results import Component, Record
from ppfr_bench.variants import again

STATES: tuple[CellState, ...] = ("ok", "failed", "skipped", "unmeasured", "incomparable", "missing")


class DefensePages:
    """``defenses/``: a label's card and parameters, what recognizers and attacks make of it, a picture of that."""

    name = "defenses/*"
    order = 60

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML, one a label, and JPEG of synthetic faces where there are some that may be shown."""
        entries: dict[str, list[tuple[Section, Row]]] = {}
        for section in board.sections:
            for row in section.rows:
                entries.setdefault(row.defense, []).append((section, row))
        files: dict[str, bytes] = {}
        for label, found in entries.items():
            place, picture = f"defenses/{label}", defense_grid(board, label)
            if picture:
                files[f"{place}.jpg"] = picture
            files[f"{place}.html"] = render(
                "defense.html", root="../", board=board, label=label, entries=found, has_picture=bool(picture)
            )
        return files


@dataclass(frozen=True)
class Result:
    """One attack on one defense, by one recognizer where it takes one."""

    row: Row
    cell: Cell

    @property
    def sets(self) -> bool:
        """Whether it is what sets a privacy of the row."""
        mine = (self.cell.attack, self.cell.recognizer)
        return mine in [(p.attack, p.recognizer) for p in (self.row.appearance, self.row.identity)]


@dataclass(frozen=True)
class Against:
    """One attack on all defenses of a table, the largest leakage first."""

    section: Section
    measures: str
    results: tuple[Result, ...]
    names: tuple[str, ...]  # of the measures of leakage


class AttackPages:
    """``attacks/``: its settings, and what it regains of each defense."""

    name = "attacks/*"
    order = 61

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML by path, one a label."""
        labels = sorted({attack for section in board.sections for attack, _ in section.attacks})
        found = {label: _settings(board.records, label) for label in labels}
        return {
            f"attacks/{label}.html": render(
                "attack.html", root="../", board=board, label=label, settings=settings,
                tables=list(_against(board, label)), again=_again(label, settings),
            )
            for label, settings in found.items()
        }  # fmt: skip


def _settings(records: tuple[Record, ...], label: str) -> list[tuple[Component, str]]:
    """What the attack was run with and what it knows, as often as records disagree."""
    found = {
        record.attack.model_dump_json() + str(record.knowledge): (record.attack, record.knowledge or "")
        for record in records
        if record.attack is not None and record.attack.label == label
    }
    return [found[key] for key in sorted(found)]


def _again(label: str, settings: list[tuple[Component, str]]) -> str:
    """The options of ``ppfr-bench run`` that choose the attack."""
    component, _ = settings[0]
    return again("attack", label, component.name, component.config)


def _against(board: Board, label: str) -> Iterator[Against]:
    for section in board.sections:
        results = [Result(row, cell) for row in section.rows for cell in row.cells if cell.attack == label]
        if results:
            results.sort(key=lambda one: (-_worst(one.cell), one.row.defense, one.cell.recognizer))
            names = dict.fromkeys(name for one in results for name, _ in one.cell.leakage)
            yield Against(section, results[0].cell.measures, tuple(results), tuple(names))


def _worst(cell: Cell) -> float:
    value = cell.worst.value
    return -1.0 if value is None else value


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


class CoveragePage:
    """``coverage.html``."""

    name = "coverage.html"
    order = 62

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML."""
        tables = [Coverage(section) for section in board.sections]
        return {self.name: render("coverage.html", root="", board=board, tables=tables)}
