"""Two measurements of the same: what moved, what is missing, and whether a claim and a measurement agree.

``score``, ``nightly`` and the confirmation of a claim compare alike. What is missing on one side is a finding: a number
without an interval agrees with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from ppfr_bench.records.estimate import Estimate, column
from ppfr_bench.records.record import Record

_ROUNDING = 1e-9
_LEVEL = 0.05  # All numbers of a row together leave what chance allows in so many of honest confirmations.
_HALF = NormalDist().inv_cdf(0.975)  # Half the width of a 95% interval, in standard deviations.


@dataclass(frozen=True)
class Finding:
    """Something that moved since the last night.

    Attributes:
        kind: ``regression`` (a changed cell came out otherwise), ``drift`` (an unchanged one did), ``failed`` or
            ``slower`` (a benchmark).
        what: the cell, or the benchmark; ``metric`` of it, with its value ``before``, that value's interval, and
            ``now``.
    """

    kind: str
    what: str
    metric: str = ""
    before: float | None = None
    interval: tuple[float, float] | None = None
    now: float | None = None
    reason: str = ""

    @property
    def line(self) -> str:
        """For an issue."""
        if self.metric:
            around = f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""
            return f"{self.kind}: {self.what}, {self.metric}: {self.before:.4g}{around} last night, {self.now:.4g} now"
        return f"{self.kind}: {self.what}: {self.reason}"


def compare(kind: str, then: Record, now: Record) -> list[Finding]:
    """Each number of ``now`` that lies outside the interval it had ``then``, and each that only one of them can back.

    A cell that fails now, or a metric, a value, an interval or an ``n`` that one has and the other lacks, is a finding.
    """
    if now.status != "ok":
        return failures(now) if then.status == "ok" else []
    if then.status != "ok":
        return []
    found = [
        Finding("missing", now.title, reason=f"{name} is {'not measured any more' if name in then.metrics else 'new'}")
        for name in sorted(then.metrics.keys() ^ now.metrics.keys())
    ]
    for name in sorted(then.metrics.keys() & now.metrics.keys()):
        before, after = dict(then.metrics[name].parts()), dict(now.metrics[name].parts())
        for part in sorted(before.keys() | after.keys()):
            one, other = before.get(part), after.get(part)
            if one is None or other is None:
                which = "not measured any more" if other is None else "new"
                found.append(Finding("missing", now.title, reason=f"{column(name, part)} is {which}"))
            else:
                found += _compared(kind, now.title, column(name, part), one, other)
    return found


def failures(record: Record) -> list[Finding]:
    """The finding of a cell that failed."""
    return [Finding("failed", record.title, reason=record.reason)] if record.status == "failed" else []


def disagreements(what: str, claimed: Mapping[str, Estimate], measured: Mapping[str, Estimate]) -> list[Finding]:
    """Where claimed numbers and numbers measured on other people differ by more than chance explains.

    Both have an interval, as both are of a sample of people: their difference is held against
    sqrt(half a^2 + half b^2), widened for as many numbers as there are (Bonferroni).
    """
    found = []
    allowed = NormalDist().inv_cdf(1 - _LEVEL / (2 * max(1, len(claimed)))) / _HALF
    for name in sorted(claimed.keys() | measured.keys()):
        one, other = claimed.get(name), measured.get(name)
        if one is None or other is None or one.value is None or other.value is None:
            side = "claimed" if one is None or one.value is None else "measured"
            lacking = one if side == "claimed" else other
            found.append(Finding("missing", what, reason=f"{name} is not {side}: {lacking.reason if lacking else ''}"))
        elif one.interval is None or other.interval is None:
            side = "claim" if one.interval is None else "measurement"
            found.append(Finding("missing", what, reason=f"{name}: the {side} has no interval"))
        else:
            toward = other.value - one.value
            half = math.hypot(_reach(one, toward), _reach(other, -toward)) * allowed
            if abs(toward) > half + _ROUNDING:
                found.append(Finding("refuted", what, name, one.value, one.interval, other.value))
    return found


def _reach(estimate: Estimate, toward: float) -> float:
    """How far the interval reaches from its value to the side of the other."""
    assert estimate.value is not None and estimate.interval is not None
    low, high = estimate.interval
    return max(0.0, high - estimate.value if toward > 0 else estimate.value - low)


def _compared(kind: str, title: str, name: str, then: Estimate, now: Estimate) -> list[Finding]:
    if then.value is None and now.value is None:
        return []
    if then.value is None or now.value is None:
        lacking = then if then.value is None else now
        when = "had no value" if lacking is then else "has no value now"
        return [Finding("failed" if lacking is now else "missing", title, reason=f"{name} {when}: {lacking.reason}")]
    if then.n != now.n:
        return [Finding("missing", title, reason=f"{name} was of n {then.n}, and is of {now.n}")]
    if (then.interval is None) != (now.interval is None):
        which = "had no interval" if then.interval is None else "has no interval now"
        return [Finding("missing", title, reason=f"{name} {which}")]
    if then.interval is None:
        return []  # What chance gives has none.
    low, high = then.interval
    if low - _ROUNDING <= now.value <= high + _ROUNDING:
        return []
    return [Finding(kind, title, name, then.value, (low, high), now.value)]
