"""Estimates made of others, limits that hold for several of them together, and ranks that those can stand by.

A privacy is the smallest of many noisy numbers, one an attack and a measure, and so is a score. In most draws the
smallest is smaller than in the sample, so that draws of it would count the noise twice: instead all the numbers have
limits together (max-t), and the smallest of these limits are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.metrics.leakage import harmonic_mean
from ppfr_bench.metrics.pareto import pareto_front
from ppfr_bench.records.estimate import Estimate, Interval

LEVEL = 0.95
FREEDOM = 30  # 200 draws of 60 people, the fewest that a board has, are worth 45: equal rows were told apart too often.
_NORMAL = 1.96  # Half of an interval of 95% in standard errors.
_WIDE = 4.0  # A number that lies further above the smallest, in standard errors, cannot be the smallest.
_MULTIPLIED = 2000  # Draws of the largest deviation.

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """Where a row stands in its table.

    Attributes:
        rank: 1 + the number of rows that score higher.
        interval: from 1 + the number of rows that are significantly better to the number of rows less those that are
            significantly worse.
        front: no row beats it in both numbers that defenses trade between, and both are above 0.
    """

    rank: int
    interval: tuple[int, int]
    front: bool = False


def drawn(value: float, draws: Array | None, n: int, reason: str = "", key: str = "") -> Estimate:
    """An estimate with the percentile interval of its draws, if it has any, widened to hold the value."""
    if draws is None:
        return Estimate(value, None, n, reason, key=key)
    found = percentile_interval(draws)
    interval: Interval | None = found and (min(found[0], value), max(found[1], value))
    return Estimate(value, interval, n, reason, tuple(float(one) for one in draws), key)


def mean_estimate(estimates: Sequence[Estimate], reason: str = "") -> Estimate:
    """The mean of estimates that have a value, draw by draw where all have as many."""
    value = float(np.mean([one.value for one in estimates if one.value is not None]))
    lengths = {len(one.draws) for one in estimates}
    draws = None
    if len(lengths) == 1 and lengths != {0}:
        draws = np.mean([one.draws for one in estimates], axis=0)
    key = estimates[0].key if len(estimates) == 1 else ""
    return drawn(value, draws, min(one.n for one in estimates), reason, key)


def harmonic_score(kept: Estimate, hidden: Estimate) -> Estimate:
    """Harmonic mean of what is kept, clipped to [0, 1], and of what is hidden; draw by draw."""
    if kept.value is None or hidden.value is None:
        return Estimate(None, reason="; ".join(one.reason for one in (kept, hidden) if one.value is None))
    value = harmonic_mean(min(max(kept.value, 0.0), 1.0), hidden.value)
    n = min(kept.n, hidden.n)
    if not kept.draws or len(kept.draws) != len(hidden.draws):
        return Estimate(value, n=n)
    return drawn(value, harmonic_mean(np.clip(kept.draws, 0, 1), np.asarray(hidden.draws)), n)


def contenders(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Those of several shares that may be the smallest in another sample: the smallest, then as low as they reach."""
    sample = _Sample(estimates)
    low, high = (sample.values + sign * _WIDE * sample.errors for sign in (-1, 1))
    order = sorted(np.flatnonzero(low <= high.min()), key=lambda i: (low[i], i))
    chosen = dict.fromkeys([int(np.argmin(sample.values)), *(int(i) for i in order)])
    return [estimates[i] for i in chosen]


def smallest(estimates: Sequence[Estimate]) -> Estimate:
    """The smallest of several shares in [0, 1], with limits that all of them have together.

    The limits are [min(x - c s), min(x + c s)], where s is the standard error of each, and c is what the largest
    deviation of those that may be the smallest stays below in 95% of samples (max-t). They hold whichever attack is the
    strongest in truth. Where the interval of one number reaches further than x - c s or x + c s, it is the limit: near
    0 and 1 it holds the exact binomial limits. The draws are those of the smallest. Without draws of any there is no
    interval.
    """
    possible = contenders(estimates)
    least, sample = possible[0], _Sample(possible)
    if not sample.errors.any():
        return Estimate(least.value, None, least.n, draws=least.draws, key=least.key)
    reach = sample.critical() * sample.errors
    own = np.asarray([one.interval or (one.value, one.value) for one in possible])
    lows, highs = np.minimum(sample.values - reach, own[:, 0]), np.maximum(sample.values + reach, own[:, 1])
    low, high = (float(np.clip(limits.min(), 0, 1)) for limits in (lows, highs))
    return Estimate(least.value, (low, high), least.n, draws=least.draws, key=least.key)


def standings(scores: Sequence[Sequence[Estimate]], points: Sequence[tuple[Estimate, Estimate]]) -> list[Standing]:
    """Ranks by the score, with the ranks that rows may have as well as can be told.

    A row is significantly better than another where each of its numbers is larger than one and the same of the other's,
    by more than c standard errors of their difference. One c serves all pairs of rows: in 95% of samples no row is
    wrongly told from any other.

    Args:
        scores: of each row, the numbers of which its score is the smallest, with draws: the same draw of people at the
            same place.
        points: of each row, two numbers with a value, of which more is better.
    """
    if not scores:
        return []
    values = np.asarray([min(map(_value, of)) for of in scores])
    better = _better(scores)
    ranks = 1 + (values[None, :] > values[:, None]).sum(axis=1)
    above, below = better.sum(axis=0), better.sum(axis=1)
    trade = np.asarray([[np.nan if one.value is None else one.value for one in point] for point in points])
    front = pareto_front(trade) & (trade > 0).all(axis=1)
    return [
        Standing(int(ranks[i]), (int(1 + above[i]), int(len(scores) - below[i])), bool(front[i]))
        for i in range(len(scores))
    ]


def _better(scores: Sequence[Sequence[Estimate]]) -> npt.NDArray[np.bool_]:
    """Whether row i is significantly better than row k, (rows, rows)."""
    rows = np.repeat(np.arange(len(scores)), [len(of) for of in scores])
    sample = _Sample([one for of in scores for one in of])
    covariance = np.atleast_2d(np.cov(sample.draws)) if sample.draws.shape[1] > 1 else np.zeros((len(rows),) * 2)
    errors, deviates = (
        np.sqrt(np.maximum(own[:, None] ** 2 + own[None, :] ** 2 - 2 * covariance, 1e-18))
        for own in (sample.errors, sample.deviates)
    )
    other = rows[:, None] != rows[None, :]
    deviations, largest = sample.multiplied().astype(np.float32), np.zeros(_MULTIPLIED, np.float32)
    for at in range(len(rows)):
        off = (deviations[:, at, None] - deviations[:, other[at]]) / deviates[at, other[at]].astype(np.float32)
        if off.size:
            np.maximum(largest, off.max(axis=1), out=largest)
    apart = sample.values[:, None] - sample.values[None, :] > _critical(largest) * errors
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    every_mine = np.logical_and.reduceat(apart & other, starts, axis=0)
    found: npt.NDArray[np.bool_] = np.logical_or.reduceat(every_mine, starts, axis=1)
    return found


class _Sample:
    """Shares with their draws and standard errors.

    A share whose draws all agree is known no better than from people who all gave the same: its error is half of 3/n,
    the limit beyond which n people would show another with 95% (rule of three), or that of its interval if larger. So
    is one that is 0 or 1, where draws are cut off, but for how far the largest of several may deviate.

    Attributes:
        values, errors: (m,).
        deviates: (m,), the errors that deviations are measured in: those of the draws, if they differ.
        draws: (m, draws), around each value's own mean; 0 where there are none.
    """

    def __init__(self, estimates: Sequence[Estimate]) -> None:
        self.values = np.asarray([_value(one) for one in estimates], dtype=np.float64)
        length = max((len(one.draws) for one in estimates), default=0)
        self.draws = np.zeros((len(estimates), length))
        self.errors = np.zeros(len(estimates))
        for i, one in enumerate(estimates):
            if len(one.draws) == length and length > 1:
                self.draws[i] = np.asarray(one.draws) - np.mean(one.draws)
                self.errors[i] = np.std(one.draws, ddof=1)
        self.deviates = self.errors.copy()
        for i, one in enumerate(estimates):
            alike, cut_off = self.errors[i] < 1e-9, self.values[i] in (0.0, 1.0)
            if (alike or cut_off) and (one.draws or one.interval):
                low, high = one.interval or (0.0, 0.0)
                self.errors[i] = max(self.errors[i], (high - low) / 2 / _NORMAL, 1.5 / one.n if one.n else 0.0)
                if alike:
                    self.deviates[i] = self.errors[i]

    def multiplied(self) -> Array:
        """Deviations of all of them together in 2,000 samples, (2000, m): normal multiples of the draws.

        Those whose draws all agree deviate by their standard error, each on its own: nothing is known of how they
        move together.
        """
        length = self.draws.shape[1]
        found = np.asarray(_normal_multiples(length) @ self.draws.T / max(length - 1, 1) ** 0.5)
        alike = np.flatnonzero((self.deviates > 0) & ~self.draws.any(axis=1))
        if len(alike):
            apart = np.random.RandomState(1).standard_normal((len(alike), _MULTIPLIED)).T
            found[:, alike] = apart * self.deviates[alike]
        return found

    def critical(self) -> float:
        """How many standard errors the largest deviation of them stays below in 95% of samples."""
        known = self.deviates > 0
        return _critical(np.abs(self.multiplied()[:, known] / self.deviates[known]).max(axis=1))


@lru_cache(maxsize=2)
def _normal_multiples(length: int) -> Array:
    """Of ``length`` draws, (2000, length), read-only: the same for all samples, as drawing them takes longest."""
    found = np.random.RandomState(0).standard_normal((_MULTIPLIED, length))
    found.setflags(write=False)
    return found


def _critical(largest: npt.NDArray[np.floating]) -> float:
    """As Student's t has it, for the standard errors are estimates too; rounded, so that the last bits do not show."""
    from scipy.special import ndtr, stdtrit  # A quarter of a second to load, of which --help has no need.

    normal = float(np.quantile(largest, LEVEL))
    return round(float(stdtrit(FREEDOM, ndtr(max(normal, _NORMAL)))), 2)


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "only of what has a value"
    return estimate.value
