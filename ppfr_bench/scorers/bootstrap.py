"""From arrays to estimates: the value, its interval over draws of identities, and the draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import Pairs
from ppfr_bench.metrics import metric_info
from ppfr_bench.metrics.intervals import identity_pair_weights, identity_weights, share_interval, weighted_mean
from ppfr_bench.metrics.leakage import leakage, leakage_reason
from ppfr_bench.records.estimate import Estimate, Measurement

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bootstrap:
    """Draws of identities from ``universe``: the same in every cell, so that all its numbers compare pair by pair."""

    replicates: int
    seed: int
    universe: Array

    @property
    def people(self) -> int:
        """How many there are to draw from."""
        return len(self.universe)

    def items(self, identities: Array) -> Array:
        """(replicates, n): how often each item counts in each draw."""
        return identity_weights(identities, self.replicates, self.seed, universe=self.universe)

    def pairs(self, identities: Array, pairs: Pairs) -> Array:
        """(replicates, pairs): how often each pair counts in each draw."""
        return self.between(identities[pairs.left], identities[pairs.right])

    def between(self, left: Array, right: Array) -> Array:
        """(replicates, m): as ``pairs``, of pairs of these people, (m,) each."""
        return identity_pair_weights(left, right, self.replicates, self.seed, universe=self.universe)


def estimate(
    value: float | None, n: int, draws: Array | None = None, *, keep: bool = False, reason: str = "", people: int = 0
) -> Estimate:
    """Six significant digits, the interval from the draws, a reason where there is no value.

    Args:
        keep: whether the draws are kept beside it, to five digits.
        people: of a share in [0, 1], whose interval is no narrower near its ends than so many people allow.
    """
    if value is not None and not math.isfinite(value):
        value, reason = None, reason or "not finite"
    interval: tuple[float, float] | None = None
    kept: tuple[float, ...] = ()
    if value is not None and draws is not None and np.isfinite(draws).any():
        found = share_interval(draws, value, people, n)
        interval = found and (digits(found[0]), digits(found[1]))
        if keep and np.isfinite(draws).all():
            kept = tuple(digits(x, 5) for x in draws)
    return Estimate(None if value is None else digits(value), interval, n, "" if value is not None else reason, kept)


def measurement(
    metric: str, value: Estimate, floor: Estimate | None = None, ceiling: Estimate | None = None,
    leakage: Estimate | None = None,
) -> Measurement:  # fmt: skip
    """The parts under what is known of the metric."""
    info = metric_info(metric)
    return Measurement(
        metric=metric, version=info.version, direction=info.direction, unit=info.unit, value=value, floor=floor,
        ceiling=ceiling, leakage=leakage,
    )  # fmt: skip


def mean(values: Array, weights: Array, people: int = 0) -> Estimate:
    """The mean of (n,) under weights (replicates, n); ``people`` as for ``estimate``."""
    return estimate(float(values.mean()), len(values), weighted_mean(values, weights), people=people)


def compared(
    metric: str, answer: Array, floor: Array, ceiling: Array, weights: Array, people: int, *, leaks: bool = True,
    hits: bool = False,
) -> Measurement:  # fmt: skip
    """A measure of an answer, (n,), between the same of an answer that ignores the target and of no defense.

    Args:
        people: who are measured.
        leaks: whether the share that is regained is asked for.
        hits: whether the measure itself is a share, of people who are named.
    """
    lower = metric_info(metric).direction == "lower_is_better"
    leak = share_regained(answer, floor, ceiling, weights, people, lower_is_more_alike=lower) if leaks else None
    here, least, most = (mean(values, weights, people if hits else 0) for values in (answer, floor, ceiling))
    return measurement(metric, here, least, most, leak)


def share_regained(
    answer: Array, floor: Array, ceiling: Array, weights: Array, people: int, *, lower_is_more_alike: bool
) -> Estimate:
    """Where the answer's mean lies between floor and ceiling, with its draws."""
    a, b, c = (float(values.mean()) for values in (answer, floor, ceiling))
    value, draws = share_and_draws(answer, floor, ceiling, weights, lower_is_more_alike)
    reason = leakage_reason(a, b, c, lower_is_more_alike)
    return estimate(value, len(answer), draws, keep=True, reason=reason, people=people)


def share_and_draws(
    answer: Array, floor: Array, ceiling: Array, weights: Array, lower_is_more_alike: bool
) -> tuple[float, Array]:
    """The share that is regained and its draws; NaN where the ceiling is not above the floor."""
    a, b, c = (float(values.mean()) for values in (answer, floor, ceiling))
    a_, b_, c_ = (weighted_mean(values, weights) for values in (answer, floor, ceiling))
    return leakage(a, b, c, lower_is_more_alike), np.asarray(leakage(a_, b_, c_, lower_is_more_alike))


def digits(value: float, digits: int = 6) -> float:
    """Rounded to significant digits: sums may differ in the last bits between runs, records should not.

    By way of twelve digits: 5/128 and its neighbours in the last bit would else fall on either side of a half.
    """
    return float(f"{float(f'{value:.12g}'):.{digits}g}")
