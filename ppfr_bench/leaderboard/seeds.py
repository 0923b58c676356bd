"""Spread between seeds: records of a second and third seed widen the intervals of those of the first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.results import MetricValue, Record, digest

Slot = tuple[str, str, str]  # kind, attack label, recognizer label


def slot_of(record: Record) -> Slot:
    """What a record measures, on whichever defense and under whichever seed."""
    return (
        record.cell,
        record.attack.label if record.attack else "",
        record.recognizer.label if record.recognizer else "",
    )


@dataclass(frozen=True)
class Spread:
    """Standard deviation between seeds, of each number that has replicates, pooled over some defenses.

    Attributes:
        seeds: all seeds, the published one first.
        defenses: labels of those that were run with each.
        deviations: by slot and metric; what was not repeated has none, and keeps its interval.
        agreement: numbers of the other seeds that lie inside the published, widened interval, and how many there are.
    """

    seeds: tuple[int, ...] = ()
    defenses: tuple[str, ...] = ()
    deviations: dict[tuple[Slot, str], float] = field(default_factory=dict)
    agreement: tuple[int, int] = (0, 0)

    def applied(self, record: Record) -> Record:
        """The record with the spread folded into its replicates, each shifted by a draw of its own."""
        changed = {}
        for name, metric in record.metrics.items():
            deviation = self.deviations.get((slot_of(record), name), 0.0)
            if deviation > 0 and metric.replicates:
                changed[name] = _widened(metric, deviation, digest([record.key, name]), name)
        return record.model_copy(update={"metrics": record.metrics | changed}) if changed else record


def split(records: Sequence[Record]) -> tuple[list[Record], Spread]:
    """The records of the published seed, widened by what the other seeds of the same cells say."""
    spread = spread_of(records)
    return [spread.applied(record) for record in published(records)], spread


def published(records: Sequence[Record]) -> list[Record]:
    """The records of the seed of most records, the smallest among equals, as they are.

    A record of another seed stays if its cell was not measured under the published one.
    """
    return _parts(records)[0]


def spread_of(records: Sequence[Record]) -> Spread:
    """What the records of other seeds say of those of the published one."""
    main, repeated, seed = _parts(records)
    return _measured(main, repeated, seed) if repeated else Spread()


def _parts(records: Sequence[Record]) -> tuple[list[Record], list[Record], int]:
    """The published records, those of other seeds that repeat one of them, and the published seed."""
    counts = Counter(record.seed for record in records)
    if len(counts) < 2:
        return list(records), [], 0
    seed = min(counts, key=lambda seed: (-counts[seed], seed))
    cells = {_cell(record) for record in records if record.seed == seed}
    main = [record for record in records if record.seed == seed or _cell(record) not in cells]
    return main, [record for record in records if record.seed != seed and _cell(record) in cells], seed


def _cell(record: Record) -> tuple[str, Slot]:
    return record.defense.label, slot_of(record)


def _measured(main: Iterable[Record], repeated: Sequence[Record], published: int) -> Spread:
    again: dict[tuple[str, Slot], list[Record]] = defaultdict(list)
    for record in repeated:
        if record.status == "ok":
            again[_cell(record)].append(record)
    variances: dict[tuple[Slot, str], list[float]] = defaultdict(list)
    pairs: list[tuple[Record, str, float]] = []
    for record in main:
        for name, metric in record.metrics.items():
            others = [_value(other, name) for other in again.get(_cell(record), [])]
            values = [value for value in others if value is not None]
            if metric.value is None or not metric.replicates or not values:
                continue
            variances[slot_of(record), name].append(float(np.var([metric.value, *values], ddof=1)))
            pairs += [(record, name, value) for value in values]
    deviations = {of: float(np.sqrt(np.mean(found))) for of, found in variances.items()}
    spread = Spread(deviations=deviations)
    inside = 0
    for record, name, value in pairs:
        interval = spread.applied(record).metrics[name].interval
        inside += interval is not None and interval[0] - 1e-9 <= value <= interval[1] + 1e-9
    seeds = (published, *sorted({record.seed for record in repeated} - {published}))
    defenses = tuple(sorted({label for label, _ in again}))
    return Spread(seeds, defenses, deviations, (inside, len(pairs)))


def _value(record: Record, name: str) -> float | None:
    metric = record.metrics.get(name)
    return None if metric is None else metric.value


def _widened(metric: MetricValue, deviation: float, draw: str, name: str) -> MetricValue:
    shifts = np.random.RandomState(int(draw[:8], 16)).normal(0, deviation, len(metric.replicates))
    moved = np.asarray(metric.replicates) + shifts
    if name.startswith("leakage_"):
        moved = np.clip(moved, 0, 1)
    found = percentile_interval(moved)
    assert metric.value is not None
    interval = found and (min(found[0], metric.value), max(found[1], metric.value))
    return replace(metric, replicates=tuple(float(x) for x in moved), interval=interval)
