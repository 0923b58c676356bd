"""Spread between seeds: records of a second and third seed widen the intervals of those of the first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.records.estimate import Estimate, Measurement, Part, column
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.record import Record, Slot

Number = tuple[Slot, str, Part]  # The slot, the measurement, and its part.


@dataclass(frozen=True)
class Spread:
    """Standard deviation between seeds, of each number that has draws, pooled over some defenses.

    Attributes:
        seeds: all seeds, the published one first.
        defenses: labels of those that were run with each.
        deviations: what was not repeated has none, and keeps its interval.
        own: of the defenses that were run again, by label: where it is larger, it holds for them.
        still: cells of which every number was the same under all seeds, as nothing in them is trained or drawn.
        agreement: numbers of the other seeds that lie inside the published interval, widened by the pooled deviation
            alone, and how many there are.
    """

    seeds: tuple[int, ...] = ()
    defenses: tuple[str, ...] = ()
    deviations: dict[Number, float] = field(default_factory=dict)
    own: dict[tuple[str, Number], float] = field(default_factory=dict)
    still: frozenset[tuple[str, Slot]] = frozenset()
    agreement: tuple[int, int] = (0, 0)

    def applied(self, record: Record) -> Record:
        """The record with the spread folded into its draws, each shifted by a draw of its own."""
        changed: dict[str, Measurement] = {}
        for name, measured in record.metrics.items():
            wider: dict[str, Any] = {}
            for part, estimate in measured.parts():
                deviation = self._deviation(record, (record.slot, name, part))
                if deviation > 0 and estimate.draws:
                    draw = digest([record.former_key or record.key, column(name, part)])
                    wider[part] = _widened(estimate, deviation, draw, clipped=part == "leakage")
            if wider:
                changed[name] = replace(measured, **wider)
        return record.model_copy(update={"metrics": record.metrics | changed}) if changed else record

    def _deviation(self, record: Record, number: Number) -> float:
        if _cell(record) in self.still:
            return 0.0
        return max(self.deviations.get(number, 0.0), self.own.get((record.defense.label, number), 0.0))


def split(records: Sequence[Record], seed: int) -> tuple[list[Record], Spread]:
    """The records of the published seed, widened by what the other seeds of the same cells say."""
    spread = spread_of(records, seed)
    return [spread.applied(record) for record in published(records, seed)], spread


def published(records: Sequence[Record], seed: int) -> list[Record]:
    """The records of a seed, as they are.

    A record of another seed stays if its cell was not measured under this one.
    """
    return _parts(records, seed)[0]


def spread_of(records: Sequence[Record], seed: int) -> Spread:
    """What the records of other seeds say of those of the published one."""
    main, repeated = _parts(records, seed)
    return _measured(main, repeated, seed) if repeated else Spread()


def _parts(records: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    """The published records, and those of other seeds that repeat one of them."""
    cells = {_cell(record) for record in records if record.seed == seed}
    main = [record for record in records if record.seed == seed or _cell(record) not in cells]
    return main, [record for record in records if record.seed != seed and _cell(record) in cells]


def _cell(record: Record) -> tuple[str, Slot]:
    return record.defense.label, record.slot


def _measured(main: Iterable[Record], repeated: Sequence[Record], published: int) -> Spread:
    again: dict[tuple[str, Slot], list[Record]] = defaultdict(list)
    for record in repeated:
        if record.status == "ok":
            again[_cell(record)].append(record)
    variances: dict[Number, list[float]] = defaultdict(list)
    own: dict[tuple[str, Number], float] = {}
    pairs: list[tuple[Record, str, Part, float]] = []
    still = frozenset(_cell(record) for record in main if _is_still(record, again.get(_cell(record), [])))
    for record in main:
        for name, measured in record.metrics.items():
            for part, estimate in measured.parts():
                found = [other.estimate(name, part).value for other in again.get(_cell(record), [])]
                values = [value for value in found if value is not None]
                if estimate.value is None or not estimate.draws or not values:
                    continue
                variance = float(np.var([estimate.value, *values], ddof=1))
                if _cell(record) not in still:
                    variances[record.slot, name, part].append(variance)
                own[record.defense.label, (record.slot, name, part)] = variance**0.5
                pairs += [(record, name, part, value) for value in values]
    deviations = {of: float(np.sqrt(np.mean(found))) for of, found in variances.items()}
    spread = Spread(deviations=deviations)  # Its own deviation would hold a defense's own seeds by itself.
    widened = {_cell(record): spread.applied(record) for record, _, _, _ in pairs}
    inside = 0
    for record, name, part, value in pairs:
        interval = widened[_cell(record)].estimate(name, part).interval
        inside += interval is not None and interval[0] - 1e-9 <= value <= interval[1] + 1e-9
    seeds = (published, *sorted({record.seed for record in repeated} - {published}))
    defenses = tuple(sorted({label for label, _ in again}))
    return Spread(seeds, defenses, deviations, own, still, (inside, len(pairs)))


def _is_still(record: Record, others: Sequence[Record]) -> bool:
    """Whether seeds have no part in it: nothing is trained, and every number is the same under all of them.

    One number of a few hundred pairs may be the same by chance.
    """
    if record.cell == "attack" or record.adapted or not others:
        return False
    values = [{name: measured.value.value for name, measured in one.metrics.items()} for one in (record, *others)]
    return all(one == values[0] for one in values)


def _widened(estimate: Estimate, deviation: float, draw: str, *, clipped: bool) -> Estimate:
    """Its draws moved apart, and an interval that holds those of the moved draws and of one seed.

    Draws of people who all gave the same tell of nobody else: only the interval of one seed does.
    """
    shifts = np.random.RandomState(int(draw[:8], 16)).normal(0, deviation, len(estimate.draws))
    moved = np.asarray(estimate.draws) + shifts
    if clipped:
        moved = np.clip(moved, 0, 1)
    found = percentile_interval(moved)
    assert estimate.value is not None
    if found is not None:
        before = estimate.interval or (estimate.value, estimate.value)
        found = min(found[0], estimate.value, before[0]), max(found[1], estimate.value, before[1])
    return replace(estimate, draws=tuple(float(x) for x in moved), interval=found)
