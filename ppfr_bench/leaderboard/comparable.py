"""Which records make a table, as its plan says: which are of it, which are foreign, and which do not compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ppfr_bench.errors import UserError
from ppfr_bench.records.plan_file import (
    PlanFile,
    PlannedAttack,
    PlannedCell,
    PlannedDefense,
    PlannedRecognizer,
    PlannedTable,
)
from ppfr_bench.records.record import Component, Record, Slot
from ppfr_bench.tracks.base import Track, load_track

Described = PlannedDefense | PlannedAttack | PlannedRecognizer
Place = tuple[str, Slot]  # The defense's label, and the slot that is measured on it.


@dataclass(frozen=True)
class Table:
    """What is planned of a data set and a track.

    Attributes:
        defenses: labels of its rows, sorted.
        planned: all that is planned on the data set.
    """

    suite: str
    dataset: str
    track: str
    rules: Track
    defenses: tuple[str, ...]
    planned: PlannedTable

    @cached_property
    def cells(self) -> dict[Place, PlannedCell]:
        """Those of the published seed."""
        return {
            (cell.defense, cell.slot): cell
            for cell in self.planned.cells
            if cell.defense in self.defenses and cell.cell != "canary" and cell.seed == self.planned.seed
        }

    @cached_property
    def privacies(self) -> tuple[str, ...]:
        """Those of the track, then others that an attack sets."""
        set_by_some = {self.attack(slot).sets for slot in self._slots if slot[1]} - {"", *self.rules.privacies}
        return (*self.rules.privacies, *sorted(set_by_some))

    @cached_property
    def slots(self) -> list[Slot]:
        """What is measured, in reading order: utility, then attacks by the privacy that they set."""
        return sorted(self._slots, key=self._reading_order)

    def slots_of(self, defense: str) -> list[Slot]:
        """What is measured on a row: all, but for answers made elsewhere to the releases of other rows."""
        mine = {cell.slot for cell in self.planned.cells if cell.defense == defense}
        return [slot for slot in self.slots if not slot[1] or self.attack(slot).live or slot in mine]

    @cached_property
    def _slots(self) -> set[Slot]:
        planned = self.planned.cells
        return {cell.slot for cell in planned if cell.defense in self.defenses and cell.cell != "canary"}

    def _reading_order(self, slot: Slot) -> tuple[object, ...]:
        if not slot[1]:
            return (0, 0, False, "", slot)
        attack = self.attack(slot)
        order = [*self.privacies, attack.sets].index(attack.sets)
        return (1, order, not attack.faces, attack.scorer, slot)

    def attack(self, slot: Slot) -> PlannedAttack:
        """The attack of a slot."""
        return self.planned.attacks[slot[1]]


def tables(plan: PlanFile) -> list[Table]:
    """Every data set and track of a plan, in reading order.

    Raises:
        UserError: a track that is not here, or a cell of a defense or an attack that the plan does not describe.
    """
    found = []
    for dataset in sorted(plan.tables):
        planned = plan.tables[dataset]
        _check_labels(plan, planned)
        by_track: dict[str, set[str]] = defaultdict(set)
        for cell in planned.cells:
            if cell.cell != "canary":
                by_track[planned.defenses[cell.defense].track].add(cell.defense)
        rules = {track: load_track(track) for track in by_track}
        for track in sorted(by_track, key=lambda track: (rules[track].order, track)):
            labels = tuple(sorted(by_track[track]))
            found.append(Table(plan.suite, dataset, track, rules[track], labels, planned))
    return found


def _check_labels(plan: PlanFile, planned: PlannedTable) -> None:
    for cell in planned.cells:
        for kind, label, known in (
            ("defense", cell.defense if cell.cell != "canary" else "", planned.defenses),
            ("attack", cell.attack, planned.attacks),
        ):
            if label and label not in known:
                raise UserError(
                    f"the plan of {plan.suite} has a cell of {kind} '{label}', which it does not describe",
                    f"It is written anew by  ppfr-bench run {plan.suite}",
                )


def planned_records(records: Iterable[Record], planned: PlannedTable) -> list[Record]:
    """The records of a data set's cells, in the order of the plan and under its labels: a key is what they go by."""
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record not in by_key[record.key]:
            by_key[record.key].append(record)
    found: list[Record] = []
    for cell in planned.cells:
        if mine := by_key.get(cell.key):
            there = [record for record in mine if _place(record) == cell.place]
            found += there or [_labelled(mine[0], cell)]
    return found


def foreign_records(records: Iterable[Record], plan: PlanFile) -> list[Record]:
    """The records that are of no cell of the plan: on no board, and without a bearing on any."""
    keys = {cell.key for planned in plan.tables.values() for cell in planned.cells}
    return [record for record in records if record.key not in keys]


def foreign_note(foreign: Sequence[Record], suite: str) -> str:
    """What is said of them; empty where there is none."""
    if not foreign:
        return ""
    count = "1 record is" if len(foreign) == 1 else f"{len(foreign)} records are"
    return (
        f"{count} of no cell of the plan of {suite}: measured under other settings, other versions or other data. "
        "They are on no board and change no number of it."
    )


def incomparable(record: Record, table: Table) -> str:
    """Why a record of the plan does not compare with the others of its table; empty if it does."""
    planned = table.planned
    if (record.dataset_revision, record.seed) != (planned.revision, planned.seed):
        return (
            f"measured on revision {record.dataset_revision[:12]} with seed {record.seed}, "
            f"the table on {planned.revision[:12]} (version {planned.dataset.version}) with seed {planned.seed}"
        )
    for kind, component, expected in _components(record, planned):
        if expected is not None and component.spec != expected.spec:
            return f"{kind} {component.label} was run with other settings, or in another version, than the plan's"
    versions = [(found.metric, found.version) for found in record.metrics.values()]
    if any(planned.metrics.get(metric, version) != version for metric, version in versions):
        return "measured by other versions of metrics than the plan's; run it again"
    return ""


def _components(record: Record, planned: PlannedTable) -> Iterator[tuple[str, Component, Component | None]]:
    """Kind, what the record was made with, and what the plan has under the same label."""
    described: tuple[tuple[str, Component | None, Mapping[str, Described]], ...] = (
        ("defense", record.defense, planned.defenses),
        ("attack", record.attack, planned.attacks),
        ("recognizer", record.recognizer, planned.recognizers),
    )
    for kind, component, known in described:
        if component is not None:
            expected = known.get(component.label)
            planned_as = expected.component if expected is not None else None
            if isinstance(expected, PlannedAttack) and not expected.live:  # Each row has answers of its own.
                planned_as = expected.component.model_copy(update={"config": component.config})
            yield kind, component, planned_as


def _place(record: Record) -> tuple[str, Slot, int]:
    return record.defense.label, record.slot, record.seed


def _labelled(record: Record, cell: PlannedCell) -> Record:
    """The record under the labels that the plan gives what it measures."""
    parts = {"defense": (record.defense, cell.defense), "attack": (record.attack, cell.attack),
             "recognizer": (record.recognizer, cell.recognizer)}  # fmt: skip
    return record.model_copy(
        update={
            name: component.model_copy(update={"label": label})
            for name, (component, label) in parts.items() if component is not None and component.label != label
        }
    )  # fmt: skip
