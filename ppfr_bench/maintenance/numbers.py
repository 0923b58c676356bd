"""Whether the numbers of a record can have been measured: their ranges, their order, and how they follow from another.

It finds what nobody can have measured, and does not tell a lie from a measurement: that is what measuring again is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ppfr_bench.api import FaceDataset
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import metric_info
from ppfr_bench.metrics.intervals import share_interval
from ppfr_bench.metrics.leakage import BROKEN, leakage, leakage_reason, retention
from ppfr_bench.records.estimate import Estimate, Measurement, Part, column
from ppfr_bench.records.record import Record
from ppfr_bench.scorers.base import Truth
from ppfr_bench.scorers.verification import CHANCE

_WITHOUT_INTERVAL = {("d_sys", "floor"), ("d_sys_bias", "value"), ("d_sys_bias", "ceiling")}  # What chance gives.
_BY_SIZE = ("rank_10", "rank_1_of_", "leakage")  # Whether there are such numbers depends on the gallery.
_NAMED_OTHERWISE = {"attribute_error", "agreement"}  # Measurements of these metrics have names of their own.
_ROUNDING = 2e-5  # Records have six digits, and draws five.
_NEAR = 1e-3  # An interval from rounded draws is so near to that from the draws themselves.


@dataclass(frozen=True)
class Counts:
    """How many things a suite measures.

    Attributes:
        people: everybody who is measured; ``targets``: images that are attacked.
        pairs, genuine: of verification, and those of one person; ``canary``: the same two of the canary.
        replicates: draws of the bootstrap.
    """

    people: int
    targets: int
    pairs: int
    genuine: int
    canary: tuple[int, int]
    replicates: int

    @classmethod
    def of(cls, dataset: FaceDataset, replicates: int) -> Counts:
        """Of a data set that is open."""
        truth, canary = Truth(dataset, 1), dataset.canary[1]
        return cls(
            len(truth.people), len(truth.targets), len(dataset.pairs), int(dataset.pairs.same.sum()),
            (len(canary), int(canary.same.sum())), replicates,
        )  # fmt: skip

    def of_cell(self, record: Record) -> set[int]:
        """What the ``n`` of a number of the record may be."""
        if record.cell == "canary":
            return {*self.canary, self.canary[0] - self.canary[1]}
        if record.cell == "utility":
            return {self.pairs, self.genuine, self.pairs - self.genuine}
        return {self.targets, 2 * self.targets}  # An attack's pairs are two of each target.


def impossible(record: Record, counts: Counts | None, metrics: tuple[str, ...]) -> str:
    """Why nobody can have measured the numbers of a record; empty if somebody can.

    Args:
        counts: of the suite that it was measured in; None where they are known from another record of its cell.
        metrics: names of those that the scorer of its cell computes.
    """
    wanted = [one for one in metrics if not one.startswith(_BY_SIZE) and one not in _NAMED_OTHERWISE]
    if missing := [name for name in wanted if name not in record.metrics]:
        return f"it has no {missing[0]}"
    if record.sets and all(one.leakage is None for one in record.metrics.values()):
        return "it has no leakage"
    expected_n = counts.of_cell(record) if counts is not None else set()
    for name, measured in sorted(record.metrics.items()):
        if wrong := _wrong_meaning(measured, metrics):
            return f"{name}: {wrong}"
        for part, found in measured.parts():
            if wrong := _wrong_estimate(measured, part, found, expected_n, counts):
                return f"{column(name, part)}: {wrong}"
        if wrong := _wrong_leakage(measured):
            return f"{column(name, 'leakage')}: {wrong}"
    return _wrong_retention(record)


def unlike_ceiling(record: Record, ceiling: Record) -> str:
    """Where a record contradicts what the board has of the same cell without protection; empty if nowhere.

    Args:
        ceiling: the record of the same attack and recognizer on the defense that protects nothing.
    """
    if record.metrics.keys() != ceiling.metrics.keys():
        names = sorted(record.metrics.keys() ^ ceiling.metrics.keys())
        return f"it and the board's record without protection do not both have {names[0]}"
    for name, mine, there in ((name, record.metrics[name], ceiling.metrics[name]) for name in sorted(record.metrics)):
        if {part: one.n for part, one in mine.parts()} != {part: one.n for part, one in there.parts()}:
            return f"{name}: another n, or other parts, than the board's record without protection"
        undefended = mine.ceiling if record.cell == "attack" else mine.value if name == "clear_accuracy" else None
        known = there.ceiling if record.cell == "attack" else there.value
        if undefended is None or known is None:
            continue
        if (undefended.value is None) != (known.value is None):
            return f"{name} without protection: {undefended.value}, the board has {known.value}"
        if undefended.value is not None and known.interval and not _within(undefended.value, known.interval):
            low, high = known.interval
            return f"{name} without protection: {undefended.value:.4g}, the board has [{low:.4g}, {high:.4g}]"
    return ""


def _wrong_meaning(measured: Measurement, metrics: tuple[str, ...]) -> str:
    try:
        info = metric_info(measured.metric)
    except UserError:
        return f"no metric is called {measured.metric!r}"
    if measured.metric not in metrics:
        return f"the scorer of its cell does not compute {measured.metric}"
    if (measured.version, measured.direction, measured.unit) != (info.version, info.direction, info.unit):
        return f"expected metric {info.name}, version {info.version}, {info.direction}, unit {info.unit!r}"
    return ""


def _wrong_estimate(
    measured: Measurement, part: Part, found: Estimate, expected_n: set[int], counts: Counts | None
) -> str:
    if found.key:
        return "it names another record"
    if counts is not None and found.n not in expected_n:
        return f"expected n to be {' or '.join(map(str, sorted(expected_n)))}, got {found.n}"
    if found.value is None:
        return "" if found.interval is None and not found.draws else "it has an interval or draws, and no value"
    low, high = (0.0, 1.0) if part == "leakage" else metric_info(measured.metric).range
    numbers = [found.value, *(found.interval or ()), *found.draws]
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    if outside := [x for x in numbers if not _within(x, ends)]:
        what = part if part == "leakage" else measured.metric
        return f"{outside[0]:.6g} is outside [{low}, {high}], where {what} lies"
    if found.interval is None:
        return "" if (measured.metric, part) in _WITHOUT_INTERVAL else "it has no interval"
    if not found.interval[0] <= found.interval[1] or not _within(found.value, found.interval):
        return f"{found.value:.6g} is outside its interval [{found.interval[0]:.6g}, {found.interval[1]:.6g}]"
    return _wrong_draws(part, found, found.interval, counts) if counts is not None else ""


def _wrong_draws(part: Part, found: Estimate, interval: tuple[float, float], counts: Counts) -> str:
    """Whether the draws are as many as planned, and give the interval."""
    if not found.draws:  # A draw in which nothing leaks undefended gives no number, and then none is kept.
        return ""
    if len(found.draws) != counts.replicates:
        return f"expected {counts.replicates} draws, got {len(found.draws)}"
    assert found.value is not None
    expected = share_interval(found.draws, found.value, counts.people if part == "leakage" else 0, found.n)
    if expected is None or any(abs(a - b) > _NEAR * max(1, abs(b)) for a, b in zip(interval, expected, strict=True)):
        shown = expected and f"[{expected[0]:.4g}, {expected[1]:.4g}]"
        return f"its interval is [{interval[0]:.4g}, {interval[1]:.4g}], its draws give {shown or 'none'}"
    return ""


def _wrong_leakage(measured: Measurement) -> str:
    """Whether the leakage is what value, floor and ceiling give."""
    if measured.leakage is None:
        return ""
    ends = [one.value if one is not None else None for one in (measured.value, measured.floor, measured.ceiling)]
    if any(one is None for one in ends):
        return "" if measured.leakage.value is None else "there is a value, floor or ceiling missing that it is made of"
    value, floor, ceiling = (float(one or 0.0) for one in ends)
    lower, stated = measured.lower_is_more_alike, measured.leakage.value
    span = abs(ceiling - floor)
    if stated is None:
        near = span <= _ROUNDING * max(abs(floor), abs(ceiling))
        broken = measured.leakage.reason == BROKEN and leakage_reason(value, floor, ceiling, lower) == BROKEN
        return "" if broken or near else "value, floor and ceiling give one, and it is missing"
    expected = leakage(value, floor, ceiling, lower)
    allowed = _NEAR + _ROUNDING * max(abs(value), abs(floor), abs(ceiling)) / span if span else 0.0
    if not abs(stated - expected) <= allowed:  # NaN where the ceiling is not above the floor.
        return f"it is {stated:.4g}, value, floor and ceiling give {expected:.4g}"
    return ""


def _wrong_retention(record: Record) -> str:
    """Whether the retention is what the two accuracies give."""
    if "retention" not in record.metrics:
        return ""
    stated, kept, clear = (record.estimate(name).value for name in ("retention", "accuracy", "clear_accuracy"))
    if stated is None or kept is None or clear is None:
        return "" if stated is None and clear is not None and clear <= CHANCE else "retention or accuracy is missing"
    expected = retention(kept, clear, CHANCE)
    if not abs(stated - expected) <= _NEAR:
        return f"retention is {stated:.4g}, the accuracies give {expected:.4g}"
    return ""


def _within(value: float, interval: tuple[float, float]) -> bool:
    low, high = interval
    return low - _ROUNDING * max(1, abs(low)) <= value <= high + _ROUNDING * max(1, abs(high))
