"""What a run takes the place of is set aside and never deleted; what it asks for again is brought back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ppfr_bench import registry
from ppfr_bench.device import device_class
from ppfr_bench.metrics import metric_info, metric_names
from ppfr_bench.records.hashing import canonical_json, digest
from ppfr_bench.records.plan_file import PlannedTable
from ppfr_bench.records.record import Component, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell, Plan

SETTINGS = "superseded"  # The shelf of records of other settings and versions; other data have their own.
_MOST = 8  # At most so many reasons are told one by one.


@dataclass
class Moves:
    """Records that a run has moved: set aside, by reason, and brought back."""

    aside: Counter[str] = field(default_factory=Counter)
    back: int = 0

    def __bool__(self) -> bool:
        return bool(self.aside or self.back)

    def message(self, where: object) -> str:
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


def make_room(plan: Plan, store: ResultStore, moves: Moves) -> None:
    """Publish the plan, and make its records those of the board: what it takes the place of is set aside.

    Records of the plan that were set aside before are brought back. Records of the data set under another revision go
    to a shelf of that revision, and come back from it with the data.
    """
    suite, label = plan.suite, plan.dataset.label
    before = store.plan(suite)
    published = plan.published()
    revision = published.tables[label].revision
    table = before.tables.get(label) if before else None
    if table is not None and table.revision != revision:
        moved = store.set_aside(suite, [cell.key for cell in table.cells], _shelf(table.revision))
        moves.aside[f"data set {label} of revision {table.revision}, now {revision}"] += len(moved)
        moves.back += len(store.bring_back_shelf(suite, _shelf(revision), label))
        table = before.aside.get(label, {}).get(revision) if before else None
    if table is not None:
        gone = _superseded(table, published.tables[label], plan)
        records = {key: store.find(suite, key) for key in gone}
        for key in store.set_aside(suite, gone, SETTINGS):
            if (record := records[key]) is not None:
                moves.aside[why(record, gone[key], plan)] += 1
    moves.back += len(store.bring_back(suite, [cell.key for cell in plan.cells]))
    store.write_plan(published)


def _superseded(before: PlannedTable, now: PlannedTable, plan: Plan) -> dict[str, Cell]:
    """Keys of the records that cells of the plan take the place of, and these cells; none that another place needs."""
    keys = {cell.place: cell.key for cell in now.cells}
    by_key = {cell.key: cell for cell in plan.cells}
    kept = {cell.key for cell in before.merged(now).cells}
    return {
        cell.key: by_key[keys[cell.place]]
        for cell in before.cells
        if cell.place in keys and keys[cell.place] != cell.key and cell.key not in kept
    }


def why(record: Record, cell: Cell, plan: Plan) -> str:
    """In what a record differs from the cell that takes its place; ``unet: steps 300, now 1200``."""
    found: list[str] = []
    for then, now in ((record.defense, cell.defense), (record.attack, cell.attack),
                      (record.recognizer, cell.recognizer)):  # fmt: skip
        if then is not None and now is not None:
            found += [f"{now.label}: {what}" for what in _changes(then, now)]
    if record.dataset_revision != plan.setting.dataset_revision:
        found.append(f"data of revision {record.dataset_revision}, now {plan.setting.dataset_revision}")
    found += [f"{what} {then}, now {now}" for what, then, now in _protocol(record, plan) if then != now]
    if found:
        return "; ".join(found)
    if cell.attack and (sources := registry.build("attack", cell.attack.name, cell.attack.config).sources):
        return f"{cell.attack.label}: another {', '.join(sources)}, which it starts from"
    return "another surrogate, protocol.shots or version of a scorer"  # A key holds these, and a record does not.


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
    protocol = plan.setting.protocol
    yield "protocol.threads", record.environment.threads, protocol.threads
    yield "device", device_class(record.environment.device), device_class(plan.setting.device)
    draws = [len(part.draws) for one in record.metrics.values() for _, part in one.parts() if part.draws]
    if draws:
        yield "protocol.replicates", draws[0], protocol.replicates
    known = metric_names()
    for name, found in sorted(record.metrics.items()):
        if found.metric in known:
            yield f"version of metric {name}", found.version, metric_info(found.metric).version


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _shelf(revision: str) -> str:
    """A revision may be any text: a folder is named by its digest."""
    return f"data-{digest(revision)[:12]}"
