"""Canaries of a suite: clear images against clear images, which no defense and no attack can move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ppfr_bench.leaderboard.rows import Estimate
from ppfr_bench.leaderboard.seeds import published
from ppfr_bench.records.record import Record

CANARY_METRICS = ("auc", "eer", "tar_at_far_1e-2", "tar_at_far_1e-3")


@dataclass(frozen=True)
class Canary:
    """Clear against clear, one recognizer: if it moved from what is expected, the environment moved."""

    dataset: str
    recognizer: str
    surrogate: bool
    status: str
    reason: str
    accuracy: Estimate
    expected: float | None
    moved: bool
    others: tuple[tuple[str, Estimate], ...]


def canaries_of(records: Sequence[Record], seed: int) -> list[Canary]:
    """Those of the records of a seed, in reading order."""
    found = []
    for record in published([record for record in records if record.cell == "canary"], seed):
        if record.recognizer is None:
            continue
        expected = record.log.get("expected_accuracy")
        found.append(
            Canary(
                record.dataset.label, record.recognizer.label, record.surrogate, record.status, record.reason,
                record.estimate("accuracy"),
                float(expected) if isinstance(expected, int | float) and not isinstance(expected, bool) else None,
                "canary_moved" in record.flags,
                tuple((name, record.estimate(name)) for name in CANARY_METRICS),
            )
        )  # fmt: skip
    return sorted(found, key=lambda canary: (canary.dataset, canary.surrogate, canary.recognizer))
