"""Two measurements of the same: what moved, what is missing, and whether a claim and a measurement agree.

``score``, ``nightly`` and the confirmation of a claim compare alike. What is missing on one side is a finding: a number
without an interval agrees with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
            ``missing`` (one of two has what the other lacks), ``refuted`` (a claim) or ``slower`` (a benchmark).
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
            then, now = ("claimed", "measured") if self.kind == "refuted" else ("last night", "now")
            return f"{self.kind}: {self.what}, {self.metric}: {self.before:.4g}{around} {then}, {self.now:.4g} {now}"
        return f"{self.kind}: {self.what}: {self.reason}"


def compare(kind: str, then: Record, now: Record) -> list[Finding]:
    """Each number of ``now`` that lies outside the interval it had ``then``, and each that only one of them can back.

    A cell that fails now, or a metric, a value, an interval or an ``n`` that one has and the other lacks, is a finding.
    """
    if now.status != "ok" or then.status != "ok":
        return failures(now) if then.status == "ok" else []
    found = lacking(then, now)
    for name, before, after in _both(then, now):
        if before.value is None and after.value is None:
            continue
        if before.value is None or after.value is None:
            had, missing = ("had no value", before) if before.value is None else ("has no value now", after)
            found.append(Finding("failed", now.title, reason=f"{name} {had}: {missing.reason}"))
        elif before.interval is not None:
            low, high = before.interval
            if not low - _ROUNDING <= after.value <= high + _ROUNDING:
                found.append(Finding(kind, now.title, name, before.value, (low, high), after.value))
    return found


def lacking(then: Record, now: Record) -> list[Finding]:
    """What one of two good records has and the other lacks: a metric, a part of it, an interval, or things measured."""
    before, after = ({column(name, part) for name, one in record.metrics.items() for part, _ in one.parts()}
                     for record in (then, now))  # fmt: skip
    found = [f"{name} is {'not measured any more' if name in before else 'new'}" for name in sorted(before ^ after)]
    for name, one, other in _both(then, now):
        if one.n != other.n:
            found.append(f"{name} was of n {one.n}, and is of n {other.n}")
        elif None not in (one.value, other.value) and (one.interval is None) != (other.interval is None):
            found.append(f"{name} {'had no interval' if one.interval is None else 'has no interval now'}")
    return [Finding("missing", now.title, reason=reason) for reason in found]


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
        if one is not None and other is not None and one.value is None and other.value is None:
            continue
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


def _both(then: Record, now: Record) -> Iterator[tuple[str, Estimate, Estimate]]:
    """The numbers that both have, by the name of their column."""
    for name in sorted(then.metrics.keys() & now.metrics.keys()):
        after = dict(now.metrics[name].parts())
        for part, estimate in then.metrics[name].parts():
            if part in after:
                yield column(name, part), estimate, after[part]
