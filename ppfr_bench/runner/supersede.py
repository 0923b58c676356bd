"""What a run takes the place of is set aside and never deleted; what it asks for again is brought back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import METRICS
from ppfr_bench.results import Component, Record, ResultStore, canonical_json, digest
from ppfr_bench.runner.plan import Cell, Plan

SETTINGS = "superseded"  # the shelf of records of other settings and versions; other data have shelves of their own
_MOST = 8  # reasons that are told one by one


@dataclass
class Moves:
    """Records that a run has moved: set aside, by reason, and brought back."""

    aside: Counter[str] = field(default_factory=Counter)
    back: int = 0

    def __bool__(self) -> bool:
        return bool(self.aside or self.back)

    def message(self, where: Path) -> str:
        """What was moved, why, and where to."""
        lines = []
        if self.aside:
            lines.append(f"{_records(self.aside.total())} set aside in {where}, none deleted:")
            ordered = sorted(self.aside.items(), key=lambda one: (-one[1], one[0]))
            lines += [f"  {count}: {why}" for why, count in ordered[:_MOST]]
            if more := ordered[_MOST:]:
                lines.append(f"  {sum(count for _, count in more)}: {len(more)} other reasons")
            lines.append("The command that made them brings them back, and measures nothing again.")
        if self.back:
            lines.append(f"{_records(self.back)} brought back from {where}.")
        return "\n".join(lines)


def _records(count: int) -> str:
    return "1 earlier record was" if count == 1 else f"{count} earlier records were"


def settle(plan: Plan, store: ResultStore, moves: Moves) -> None:
    """Make the plan's records those of the board: of one data revision, one a cell; the plan's own brought back."""
    place = Path(plan.suite) / plan.dataset.label
    for path in sorted((store.root / place).rglob("*.json")):
        revision = _revision(store, path) or plan.dataset_revision
        if revision != plan.dataset_revision:
            store.set_aside(path, _shelf(revision))
            moves.aside[f"data set {plan.dataset.label} of revision {revision}, now {plan.dataset_revision}"] += 1
    shelf = store.aside(plan.suite) / _shelf(plan.dataset_revision) / plan.dataset.label
    for path in sorted(shelf.rglob("*.json")):
        moves.back += store.bring_back(path)
    found = [(cell, store.locate(plan.folder(cell), cell.key)) for cell in plan.cells]
    recorded = [(cell, path) for cell, path in found if path is not None]
    for _, path in recorded:
        if store.is_aside(path):
            moves.back += store.bring_back(path)
    for cell, _ in recorded:
        supersede(plan, store, cell, moves)


def _revision(store: ResultStore, path: Path) -> str:
    """The data revision of a record; empty of a file that is none, which the leaderboard will name."""
    try:
        return store.revision_of(path)
    except UserError:
        return ""


def supersede(plan: Plan, store: ResultStore, cell: Cell, moves: Moves) -> None:
    """Set aside the records of the same cell and seed under other keys."""
    for path, record in _others(plan, store, cell):
        store.set_aside(path, SETTINGS)
        moves.aside[why(record, cell, plan)] += 1


def _others(plan: Plan, store: ResultStore, cell: Cell) -> Iterator[tuple[Path, Record]]:
    current = {one.key for one in plan.cells}
    for path in sorted((store.root / plan.folder(cell)).glob("*.json")):
        if path.stem in current:
            continue
        try:
            record = store.read(path)
        except UserError:  # no record: the leaderboard will name it
            continue
        if (record.cell, record.seed, _label(record.recognizer)) == (cell.kind, plan.seed, _label(cell.recognizer)):
            yield path, record


def why(record: Record, cell: Cell, plan: Plan) -> str:
    """In what a record differs from the cell that takes its place; ``unet: steps 300, now 1200``."""
    found: list[str] = []
    for then, now in ((record.defense, cell.defense), (record.attack, cell.attack),
                      (record.recognizer, cell.recognizer)):  # fmt: skip
        if then is not None and now is not None:
            found += [f"{now.label}: {what}" for what in _changes(then, now)]
    if record.dataset_revision != plan.dataset_revision:
        found.append(f"data of revision {record.dataset_revision}, now {plan.dataset_revision}")
    found += [f"{what} {then}, now {now}" for what, then, now in _protocol(record, plan) if then != now]
    if found:
        return "; ".join(found)
    if cell.attack and (sources := registry.build("attack", cell.attack.name, cell.attack.config).sources):
        return f"{cell.attack.label}: another {', '.join(sources)}, which it starts from"
    return "another surrogate, protocol.shots or list of metrics"  # A key holds these, and a record does not.


def _changes(then: Component, now: Component) -> Iterator[str]:
    if then.name != now.name:
        yield f"plug-in {then.name}, now {now.name}"
    elif then.version != now.version:
        yield f"version {then.version}, now {now.version}"
    for key in sorted(then.config.keys() | now.config.keys()):
        if then.config.get(key) != now.config.get(key):
            yield f"{key} {_short(then.config.get(key))}, now {_short(now.config.get(key))}"


def _protocol(record: Record, plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    """What a record tells of how it was measured, then and now."""
    yield "protocol.threads", record.environment.threads, plan.protocol.threads
    for metric in record.metrics.values():
        if metric.replicates:
            yield "protocol.replicates", len(metric.replicates), plan.protocol.replicates
            break
    for name, metric in sorted(record.metrics.items()):
        kind = "leakage" if name.startswith("leakage_") else name
        if kind in METRICS:
            yield f"version of metric {name}", metric.version, METRICS[kind].version


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _label(component: Component | None) -> str:
    return component.label if component else ""


def _shelf(revision: str) -> str:
    """A revision may be any text: a folder is named by its digest."""
    return f"data-{digest(revision)[:12]}"
