"""What attacks regain of a row: the largest leakage sets a privacy, and a stronger attack should not fall behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import Any, Literal

import numpy as np

from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard.rows import Cell, Estimate, Privacy
from ppfr_bench.leaderboard.text import at_most
from ppfr_bench.metrics import metric_info
from ppfr_bench.metrics.intervals import share_interval
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.plan_file import PlannedAttack
from ppfr_bench.records.record import Record
from ppfr_bench.tracks.ranking import contenders, smallest

CLEARS = (
    0.25  # An attack works that regains, undefended, this share of what lies between its floor and a perfect answer.
)
BEYOND = 1.01  # A share that is larger before it is clipped is told of.
UNCOUNTED = ("crown_tone",)  # Of attributes before version 3: it read what is behind the head.
SHARED = ("identity",)  # Of these privacies, what the best attack regains undefended is the ceiling of them all.
SIGNIFICANT = 0.975  # One attack leaks less than another if it does in this share of the draws.
SAME = 1e-4  # Curves of leakage by budget are kept in five digits.
MARGIN = 0.02  # Leakage of two trainings of one attack may differ by so much without a meaning.

Ends = Mapping[tuple[str, str], Estimate]  # By the privacy that is set, and the measurement.


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
        (name, replace(found.leakage, key=record.key))
        for name, found in sorted(record.metrics.items())
        if found.leakage is not None and name not in UNCOUNTED
    )


def between_shared_ends(records: Sequence[Record]) -> list[Record]:
    """The records of a table, what leaks by each measure taken between ends that all attacks share.

    The floor is the best of all answers of all attacks that ignore the target: none of them knows more of a face for
    having been trained for it. The ceiling of identity is what the best attack regains where nothing is protected;
    rebuilt faces have each attack's own, as an attack that rebuilds less sharply leaks as surely.
    """
    floors = _best(records, "floor")
    ceilings = _best([record for record in records if record.sets in SHARED], "ceiling")
    found = []
    for record in records:
        metrics, people = dict(record.metrics), _people(record)
        for name, measured in record.metrics.items():
            if record.sets and measured.leakage is not None:
                floor = floors.get((record.sets, name), measured.floor)
                ceiling = ceilings.get((record.sets, name), measured.ceiling)
                metrics[name] = replace(
                    measured, floor=floor, ceiling=ceiling, leakage=regained(measured, floor, ceiling, people)
                )
        log = _log_between(record, metrics) if record.sets else record.log
        found.append(record.model_copy(update={"metrics": metrics, "log": log}))
    return found


def _log_between(record: Record, metrics: Mapping[str, Measurement]) -> dict[str, Any]:
    """The log of a record, what leaks after parts of the budget taken between the ends of ``metrics``."""
    curve = BudgetCurve.of_log(record.log)
    if curve is None:
        return record.log
    moved = {
        name: tuple(_share_between(share, record.metrics[name], metrics[name]) for share in shares)
        for name, shares in curve.leakage.items()
        if name in metrics
    }
    return {**record.log, "budget": curve.model_copy(update={"leakage": moved}).model_dump(mode="json")}


def _share_between(share: float | None, before: Measurement, now: Measurement) -> float | None:
    """A share between the ends of a measurement, as the share between other ends; None where there is none.

    What the measurement itself leaks becomes what it leaks now. Another share of 1 may have been cut off: it becomes
    the least that it can be.
    """
    own, leaked = before.leakage, now.leakage
    if share is None or own is None or leaked is None or leaked.value is None:
        return None
    if own.value is not None and isclose(share, own.value, rel_tol=SAME):
        return leaked.value
    ends = [end.value for end in (now.floor, now.ceiling) if end is not None and end.value is not None]
    if len(ends) < 2 or not (found := _rescaled(before, (share,), *ends)):
        return None
    return found[0]


def _best(records: Iterable[Record], part: Literal["floor", "ceiling"]) -> Ends:
    """The end of each measure that is most alike, of the attacks that set a privacy."""
    found: dict[tuple[str, str], Estimate] = {}
    for record in records:
        for name, measured in record.metrics.items():
            one: Estimate | None = getattr(measured, part)
            if not record.sets or measured.leakage is None or one is None or one.value is None:
                continue
            best = found.get((record.sets, name))
            if best is None or best.value is None or _above(measured, one.value, best.value) > 0:
                found[record.sets, name] = one
    return found


def _people(record: Record) -> int:
    """Whose photos the targets are, as far as a record tells: no more than the gallery has people. 0: it does not."""
    gallery = record.dataset.config.get("gallery")
    return gallery if isinstance(gallery, int) else 0


def regained(measured: Measurement, floor: Estimate | None, ceiling: Estimate | None, people: int = 0) -> Estimate:
    """The share of a measure that is regained between two ends; none if the attack is broken.

    Args:
        measured: between the ends of its own attack.
        floor, ceiling: the other ends.
        people: whose photos the targets are, if they are fewer than the targets; 0 if that is not known.
    """
    assert measured.leakage is not None, "only of a measure by which something leaks"
    own, value = measured.leakage, measured.value
    if own.value is None and (own.reason != BROKEN or ceiling == measured.ceiling):
        return own
    if floor is None or ceiling is None or floor.value is None or ceiling.value is None or value.value is None:
        return own
    if not _works(measured, floor.value, ceiling):
        return Estimate(None, reason=BROKEN)
    whole = _above(measured, ceiling.value, floor.value)
    share = _above(measured, value.value, floor.value) / whole
    reason = f"{share:.2f} before it is clipped: more than without a defense" if share > BEYOND else ""
    if (floor, ceiling) == (measured.floor, measured.ceiling):
        return replace(own, reason=reason)
    other = measured.ceiling is None or measured.ceiling.value != ceiling.value
    cut_off = other and max(own.draws, default=0.0) >= 1  # How far above their own ceiling such draws lay is not known.
    draws = () if cut_off else _rescaled(measured, own.draws, floor.value, ceiling.value)
    ends = [_clipped(_above(measured, end, floor.value) / whole) for end in value.interval or ()]
    at, n = _clipped(share), own.n or value.n
    interval = (min(ends), max(ends)) if ends else None
    if draws:
        interval = share_interval(np.asarray(draws), at, min(people or n, n), n)
    if interval is not None:
        interval = min(interval[0], at), max(interval[1], at)
    return Estimate(at, interval, n, reason, draws)


def _rescaled(measured: Measurement, shares: Sequence[float], floor: float, ceiling: float) -> tuple[float, ...]:
    """Shares between a measurement's own ends, as shares between others; none where its own ends are not known."""
    ends = [end.value for end in (measured.floor, measured.ceiling) if end is not None and end.value is not None]
    if len(ends) < 2:
        return ()
    span, shift = _above(measured, ends[1], ends[0]), _above(measured, ends[0], floor)
    return tuple(_clipped((span * one + shift) / _above(measured, ceiling, floor)) for one in shares)


def _works(measured: Measurement, floor: float, ceiling: Estimate) -> bool:
    """Whether the ceiling clears the floor, beyond its interval, by a quarter of what lies above the floor."""
    assert ceiling.value is not None
    low, high = ceiling.interval or (ceiling.value, ceiling.value)
    cleared = _above(measured, high if measured.lower_is_more_alike else low, floor)
    try:
        worst, best = metric_info(measured.metric).range
    except UserError:  # A metric that is not here: its scale is unknown.
        worst = best = None
    end = worst if measured.lower_is_more_alike else best
    return cleared > 0 if end is None else cleared >= CLEARS * _above(measured, end, floor)


def _above(measured: Measurement, one: float, other: float) -> float:
    """How much more alike one number is than another."""
    return other - one if measured.lower_is_more_alike else one - other


def _clipped(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def hidden(leakage: Estimate) -> Estimate:
    """1 - a leakage."""
    assert leakage.value is not None, "only of what has a value"
    low, high = leakage.interval or (None, None)
    interval = None if low is None or high is None else (1 - high, 1 - low)
    return Estimate(
        1 - leakage.value, interval, leakage.n, draws=tuple(1 - one for one in leakage.draws), key=leakage.key
    )


def privacy_of(name: str, cells: Sequence[Cell]) -> Privacy:
    """1 - the largest leakage over the cells that set a privacy; without a value where one of them has none."""
    words = name.replace("_", " ")
    expected = [cell for cell in cells if cell.sets == name and cell.state != "broken"]
    measured = [cell for cell in expected if cell.state == "ok"]
    candidates = sorted(
        (one for cell in measured for one in _candidates(cell)),
        key=lambda c: (-c.value, c.attack, c.measure, c.recognizer),
    )
    if not candidates:
        working = "that works undefended " if any(cell.sets == name for cell in cells) and not expected else ""
        return Privacy(Estimate(None, reason=f"no {words} attack {working}was measured"))
    worst = candidates[0]
    set_by = (worst.attack, worst.measure, worst.recognizer)
    if len(measured) < len(expected):
        # The attack without a number might have been the one that sees through it.
        bound = 1 - worst.value
        reason = f"at most {at_most(bound)}: {len(measured)} of {len(expected)} {words} cells gave a number"
        return Privacy(Estimate(None, n=worst.estimate.n, reason=reason, key=worst.estimate.key), *set_by, bound)
    kept = [hidden(one.estimate) for one in candidates]
    return Privacy(smallest(kept), *set_by, contenders=tuple(contenders(kept)))


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
            for name in sorted(strong.metrics):
                if _less(strong.estimate(name, "leakage"), weak.estimate(name, "leakage")):
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
