"""``attacks/``: a page for every attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.records.record import Component
from ppfr_bench.variants import again


@dataclass(frozen=True)
class Result:
    """One attack on one defense, by one recognizer where it takes one."""

    row: Row
    cell: Cell

    @property
    def sets(self) -> bool:
        """Whether it is what sets a privacy of the row."""
        mine = (self.cell.attack, self.cell.recognizer)
        return mine in [(privacy.attack, privacy.recognizer) for privacy in self.row.privacies.values()]


@dataclass(frozen=True)
class Against:
    """One attack on all defenses of a table, the largest leakage first.

    Attributes:
        privacy: that it sets; empty if none.
        names: of the numbers that are shown of it.
    """

    section: Section
    scorer: str
    privacy: str
    results: tuple[Result, ...]
    names: tuple[str, ...]


class AttackPages(Publisher):
    """Its settings, and what it regains of each defense."""

    name = "attacks/*"
    order = 61

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML by path, one a label."""
        labels = sorted({attack.label for section in board.sections for attack in section.attacks})
        found = {label: _settings(board, label) for label in labels}
        return {
            f"attacks/{label}.html": render(
                "attack.html", root="../", board=board, label=label, settings=settings,
                tables=list(_against(board, label)), elsewhere=not _live(board, label),
                again=_again(board, label, settings[0][0]),
            )
            for label, settings in found.items()
        }  # fmt: skip


def _live(board: Board, label: str) -> bool:
    """Whether the attack runs here, and was not made elsewhere."""
    return all(table.attacks[label].live for table in board.plan.tables.values() if label in table.attacks)


def _again(board: Board, label: str, component: Component) -> str:
    """The options of ``ppfr-bench run`` that choose it."""
    if _live(board, label):
        return again("attack", label, component.name, component.config)
    rows = [row for row in board.rows if any(cell.attack == label for cell in row.cells)]
    return f"{rows[0].again} --answers {label}"


def _settings(board: Board, label: str) -> list[tuple[Component, str]]:
    """What the attack is planned with on each data set, once where they agree, and what its records say it knows.

    Of answers that were made elsewhere each record has its own.
    """
    found: dict[str, tuple[Component, str]] = {}
    for dataset, records in board.planned.items():
        planned = board.plan.tables[dataset].attacks.get(label)
        if planned is None:
            continue
        mine = [(one.attack, one.knowledge or "") for one in records if one.attack and one.attack.label == label]
        if planned.live or not mine:
            mine = [(planned.component, min((known for _, known in mine if known), default=""))]
        found |= {component.model_dump_json() + knowledge: (component, knowledge) for component, knowledge in mine}
    return [found[key] for key in sorted(found)]


def _against(board: Board, label: str) -> Iterator[Against]:
    for section in board.sections:
        results = [Result(row, cell) for row in section.rows for cell in row.cells if cell.attack == label]
        if results:
            results.sort(key=lambda one: (-_worst(one.cell), one.row.defense, one.cell.recognizer))
            names = dict.fromkeys(name for one in results for name, _ in one.cell.shown)
            first = results[0].cell
            yield Against(section, first.scorer, first.sets, tuple(results), tuple(names))


def _worst(cell: Cell) -> float:
    value = cell.worst.value
    return -1.0 if value is None else value


PUBLISHER = AttackPages
