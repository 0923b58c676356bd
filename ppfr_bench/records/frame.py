"""Records as a tidy table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ppfr_bench.records.estimate import column
from ppfr_bench.records.record import Record

if TYPE_CHECKING:
    import pandas as pd


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a number, one row with an empty metric for a cell that has none."""
    import pandas as pd

    rows = []
    for record in records:
        kind, attack, recognizer = record.slot
        cell = {
            "suite": record.suite, "dataset": record.dataset.label, "defense": record.defense.label, "cell": kind,
            "attack": attack, "recognizer": recognizer, "status": record.status, "reason": record.reason,
            "seed": record.seed, "key": record.key,
        }  # fmt: skip
        numbers = [(column(name, part), one) for name, found in record.metrics.items() for part, one in found.parts()]
        if not numbers:
            rows.append(cell | {"metric": "", "value": None, "low": None, "high": None, "n": 0})
        for name, one in numbers:
            low, high = one.interval or (None, None)
            rows.append(cell | {"metric": name, "value": one.value, "low": low, "high": high, "n": one.n})
    return pd.DataFrame(rows)
