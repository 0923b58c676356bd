"""``attacks/``: a page for every attack: what it is, what it regains, what it costs, where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ppfr_bench.card_reader import described
from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.dials import setting_label
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.records.record import Component, Record
from ppfr_bench.variants import again

KNOWLEDGE = {
    "oblivious": "the attacker has off-the-shelf tools and knows nothing of the defense",
    "aware": "the attacker can have any number of own photos protected by the defense, and learns from the pairs",
    "informed": "the attacker also has the code and the weights of the defense",
}


@dataclass(frozen=True)
class Result:
    """One attack on one defense, by one recognizer where it takes one; ``title``: of the defense, with its setting."""

    row: Row
    cell: Cell
    title: str

    @property
    def sets(self) -> bool:
        """Whether it is what sets a privacy of the row."""
        mine = (self.cell.attack, self.cell.recognizer)
        return mine in [(privacy.attack, privacy.recognizer) for privacy in self.row.privacies.values()]


@dataclass(frozen=True)
class Against:
    """One attack on all defenses of a table, the largest leakage first.

    Attributes:
        scored: what its scorer tells, in words; ``scorer``: the name of that.
        privacy: that it sets; empty if none.
        names: of the numbers that are shown of it.
    """

    section: Section
    scorer: str
    scored: str
    privacy: str
    results: tuple[Result, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What an attack is run with on a data set, what its records say it knows, and what it spends of its budget."""

    component: Component
    knowledge: str
    budget: str

    @property
    def known(self) -> str:
        """``aware: can also have ...``."""
        return ": ".join(part for part in (self.knowledge, KNOWLEDGE.get(self.knowledge, "")) if part)


class AttackPages(Publisher):
    """What it is, where it comes from, its settings, and what it regains of each defense."""

    name = "attacks/*"
    order = 61

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML by path, one a label."""
        labels = sorted({attack.label for section in board.sections for attack in section.attacks})
        found = {label: _settings(board, label) for label in labels}
        return {
            f"attacks/{label}.html": render(
                "attack.html", root="../", board=board, label=label, title=board.attack_titles[label],
                settings=settings, card=described("attack", settings[0].component.name),
                tables=list(_against(board, label)), elsewhere=not _live(board, label),
                again=_again(board, label, settings[0].component),
            )
            for label, settings in found.items()
        }  # fmt: skip


def _live(board: Board, label: str) -> bool:
    """Whether the attack runs here, and was not made elsewhere."""
    return all(table.attacks[label].live for table in board.plan.tables.values() if label in table.attacks)


def _again(board: Board, label: str, component: Component) -> str:
    """The command that measures it anew."""
    rows = [row for row in board.rows if any(cell.attack == label for cell in row.cells)]
    chosen = again("attack", label, component.name, component.config)
    if not _live(board, label):
        chosen = f"{rows[0].again} --answers FOLDER"
    root = " --dataset-root FOLDER" if any(row.real_people for row in rows) else ""
    return f"ppfr-bench run {board.suite} {chosen}{root} --rerun all"


def _settings(board: Board, label: str) -> list[Setting]:
    """What the attack is planned with on each data set, once where they agree.

    Of answers that were made elsewhere each record has its own.
    """
    found: dict[str, Setting] = {}
    for dataset, records in board.planned.items():
        planned = board.plan.tables[dataset].attacks.get(label)
        if planned is None:
            continue
        mine = [one for one in records if one.attack and one.attack.label == label]
        known = min((one.knowledge for one in mine if one.knowledge), default="")
        made = [Setting(planned.component, known, _budget(mine, planned.component))]
        if mine and not planned.live:
            made = [Setting(one.attack, one.knowledge or "", "") for one in mine if one.attack]
        found |= {one.component.model_dump_json() + one.knowledge + one.budget: one for one in made}
    return [found[key] for key in sorted(found)]


def _budget(records: Sequence[Record], component: Component) -> str:
    """What it spends on one defense at most: releases, images that it learns from, steps and queries."""
    logs = [one.training for one in records if one.training is not None]
    shots = max((log.shots for log in logs), default=component.config.get("releases", 1))
    own = max((one.cost.attack_training_images for one in records), default=0)
    asked = max((one.cost.oracle_queries for one in records), default=0)
    steps, queries = component.config.get("steps"), component.config.get("queries")
    took = max((one.cost.seconds for one in records), default=0.0)
    parts = [
        f"{shots} {'release' if shots == 1 else 'releases'} of each target at most",
        f"learns from {own:,} images" if own else "",
        f"{steps:,} steps" if isinstance(steps, int) else "",
        f"{queries:,} questions a target" if isinstance(queries, int) else "",
        f"sends {asked:,} images through the defense" if asked else "",
        f"{text.duration(took)} of computing at most" if took else "",
    ]
    return ", ".join(part for part in parts if part)


def _against(board: Board, label: str) -> Iterator[Against]:
    for section in board.sections:
        results = [
            Result(row, cell, ", ".join(part for part in (row.title, setting_label(row, section.rows)) if part))
            for row in section.rows for cell in row.cells if cell.attack == label
        ]  # fmt: skip
        if results:
            results.sort(key=lambda one: (one.cell.order, one.row.defense, one.cell.recognizer))
            names = dict.fromkeys(name for one in results for name, _ in one.cell.shown)
            first = results[0].cell
            scored = str(described("scorer", first.scorer).get("title", ""))
            yield Against(section, first.scorer, scored, first.sets, tuple(results), tuple(names))


PUBLISHER = AttackPages
