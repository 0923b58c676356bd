"""What attacks regain of a row: the largest leakage sets a privacy, and a stronger attack should not fall behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppfr_bench.leaderboard.rows import Cell, Estimate, Privacy
from ppfr_bench.records.plan_file import PlannedAttack
from ppfr_bench.records.record import Record
from ppfr_bench.tracks.ranking import SIGNIFICANT, drawn

MARGIN = 0.02  # Leakage of two trainings of one attack may differ by so much without a meaning.


@dataclass(frozen=True)
class _Candidate:
    """One leakage among which the largest sets a privacy."""

    value: float
    attack: str
    measure: str
    recognizer: str
    estimate: Estimate


def leakages(record: Record) -> tuple[tuple[str, Estimate], ...]:
    """What leaks by each measure of an attack, by name."""
    return tuple(
        (name, record.estimate(name, "leakage"))
        for name in sorted(record.metrics)
        if record.metrics[name].leakage is not None
    )


def privacy_of(name: str, cells: Sequence[Cell], good: Sequence[tuple[Cell, Record]]) -> Privacy:
    """1 - the largest leakage over the cells that set a privacy, draw by draw; without a value where one has none.

    Args:
        good: the cells that gave a number, each with its record.
    """
    words = name.replace("_", " ")
    candidates = [one for cell, _ in good if cell.sets == name for one in _candidates(cell)]
    if not candidates:
        return Privacy(Estimate(None, reason=f"no {words} attack was measured"))
    worst = min(candidates, key=lambda c: (-c.value, c.attack, c.measure, c.recognizer))
    set_by = (worst.attack, worst.measure, worst.recognizer)
    expected = [cell for cell in cells if cell.sets == name]
    measured = sum(cell.state == "ok" for cell in expected)
    if measured < len(expected):
        # The attack without a number might have been the one that sees through it.
        bound = 1 - worst.value
        reason = f"at most {bound:.2f}: {measured} of {len(expected)} {words} cells gave a number"
        return Privacy(Estimate(None, n=worst.estimate.n, reason=reason, key=worst.estimate.key), *set_by, bound)
    length = max(len(one.estimate.draws) for one in candidates)
    draws = None
    if length:
        # A leakage without draws stands in each at its point value: left out, it would look like privacy.
        columns = [
            one.estimate.draws if len(one.estimate.draws) == length else (one.value,) * length for one in candidates
        ]
        draws = 1 - np.max(np.asarray(columns, dtype=np.float64), axis=0)
    return Privacy(drawn(1 - worst.value, draws, worst.estimate.n, key=worst.estimate.key), *set_by)


def _candidates(cell: Cell) -> list[_Candidate]:
    return [
        _Candidate(estimate.value, cell.attack, measure, cell.recognizer, estimate)
        for measure, estimate in cell.leakage
        if estimate.value is not None
    ]


def fallen_behind(records: Sequence[Record], planned: Mapping[str, PlannedAttack]) -> Iterator[str]:
    """Pairs of an attack and one that it builds on, or that had fewer releases, where it leaks less beyond chance.

    Args:
        planned: the attacks of the table, by label.
    """
    attacks = [record for record in records if record.attack is not None]
    for strong in attacks:
        for weak in attacks:
            assert strong.attack is not None and weak.attack is not None
            held, fewer = planned[strong.attack.label].shots, planned[weak.attack.label].shots
            more = strong.attack.name == weak.attack.name and held > fewer
            builds = weak.attack.name in strong.builds_on and shots_of(weak) <= shots_of(strong)
            if not (more or builds) or strong.recognizer != weak.recognizer:
                continue
            if planned[weak.attack.label].sources:
                continue  # It is as good as the attack that it starts from, which nobody builds on.
            for name, leaked in leakages(strong):
                if _less(leaked, weak.estimate(name, "leakage")):
                    yield f"{strong.attack.label} below {weak.attack.label} on {name}"


def _less(strong: Estimate, weak: Estimate) -> bool:
    """Whether the stronger attack leaks less, by more than the margin and in nearly all draws of people."""
    if strong.value is None or weak.value is None:
        return False
    if strong.value >= weak.value - MARGIN or len(strong.draws) != len(weak.draws):
        return False
    below = np.less(strong.draws, weak.draws)
    return bool(len(below)) and float(below.mean()) >= SIGNIFICANT


def shots_of(record: Record) -> int:
    """Releases of each target that the attack made use of; 1 where all are alike."""
    return record.training.shots if record.training is not None else 1
