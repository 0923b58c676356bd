"""Estimates made of others draw by draw, and ranks that the draws can stand by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.metrics.leakage import harmonic_mean
from ppfr_bench.metrics.pareto import pareto_front
from ppfr_bench.records.estimate import Estimate, Interval

SIGNIFICANT = 0.975  # A defense ranks above another if it scores higher in this share of the draws.

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """Where a row stands in its table.

    Attributes:
        rank: 1 + the number of rows that are significantly better.
        interval: the middle 95% of its ranks over the draws.
        front: no row beats it in both numbers that defenses trade between.
    """

    rank: int
    interval: tuple[int, int]
    front: bool = False


def drawn(value: float, draws: Array | None, n: int, reason: str = "", key: str = "") -> Estimate:
    """An estimate with the percentile interval of its draws, if it has any, widened to hold the value.

    A maximum over noisy leakages is larger in most draws than in the sample: where it is near nothing, the interval
    would else lie wholly beside it. Its private end is then the value itself.
    """
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


def significant_ranks(draws: Sequence[Sequence[float]], points: Sequence[tuple[Estimate, Estimate]]) -> list[Standing]:
    """Ranks by the score, such that rows that cannot be told apart share one.

    Args:
        draws: of each row's score, all of one length, the same draw of people at the same place.
        points: of each row, two numbers with a value, of which more is better.
    """
    if not draws:
        return []
    scores = np.asarray(draws, dtype=np.float64)
    above = scores[None, :, :] > scores[:, None, :]  # Axes: this, other, draw.
    ranks = 1 + (above.mean(axis=2) >= SIGNIFICANT).sum(axis=1)
    of_draws = 1 + above.sum(axis=1)
    low = np.quantile(of_draws, 0.025, axis=1, method="lower")
    high = np.quantile(of_draws, 0.975, axis=1, method="higher")
    values = [[np.nan if one.value is None else one.value for one in point] for point in points]
    front = pareto_front(np.asarray(values, dtype=np.float64))
    return [
        Standing(int(ranks[i]), (int(low[i]), int(high[i])), bool(front[i])) for i in range(len(scores))
    ]  # fmt: skip
