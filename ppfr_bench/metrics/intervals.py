"""Bootstrap over identities: photos of one person are not independent, so people are resampled, not images.

A replicate draws as many identities as there are, with replacement; an image weighs as often as its
identity was drawn. The draw depends on the identities and the seed alone, so two defenses measured on
the same people are resampled alike and their difference has an interval of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray
from ppfr_bench.metrics.verification import check_scores, crossing, tie_groups

__all__ = [
    "identity_pair_weights", "identity_weights", "percentile_interval", "share_interval", "weighted_auc",
    "weighted_eer", "weighted_mean",
]  # fmt: skip

_FEW = 10  # Items by which a share may be off one of its ends, for its interval to be widened.
_BLOCK = 2_000_000  # weights held at a time: memory stays flat in the number of pairs


def _draw(identities: int, replicates: int, seed: int) -> FloatArray:
    # RandomState: the one numpy generator whose stream is frozen, so records keep their bytes.
    shares = np.full(identities, 1 / identities)
    return np.random.RandomState(seed).multinomial(identities, shares, size=replicates).astype(np.float64)


def _positions(identities: npt.NDArray[np.int64], universe: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    at = np.minimum(np.searchsorted(universe, identities), len(universe) - 1)
    strangers = universe[at] != identities
    if strangers.any():
        raise UserError(
            f"{int(strangers.sum())} of {len(identities)} items have an identity outside the universe of "
            f"{len(universe)}, among them {identities[strangers][0]}.",
            "Pass the identities of the whole evaluation split as the universe.",
        )
    return at


def _universe(universe: npt.ArrayLike | None, *identities: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    everyone = np.unique(np.concatenate(identities) if universe is None else np.asarray(universe))
    if len(everyone) == 0:
        raise UserError("A bootstrap over identities needs one identity at least, got none.", "Check the split.")
    return everyone


def identity_weights(
    identities: npt.ArrayLike, replicates: int = 200, seed: int = 0, universe: npt.ArrayLike | None = None
) -> FloatArray:
    """How often each item's identity is drawn, (replicates, n).

    Args:
        identities: (n,).
        universe: the identities drawn from; those present in ``identities`` by default. Pass the same one to
            have several sets of items resampled alike; only which identities it holds matters.

    Raises:
        UserError: no identities, or one that is not in the universe.
    """
    items = np.asarray(identities)
    everyone = _universe(universe, items)
    return _draw(len(everyone), replicates, seed)[:, _positions(items, everyone)]


def identity_pair_weights(
    identities_left: npt.ArrayLike,
    identities_right: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    universe: npt.ArrayLike | None = None,
) -> FloatArray:
    """Weights of pairs, (replicates, m): w_i for a genuine pair of person i, w_i * w_j for an impostor pair.

    The same draw as ``identity_weights`` with the same universe (default: all identities in the pairs)
    and seed.

    Raises:
        UserError: no identities, or one that is not in the universe.
    """
    left, right = np.asarray(identities_left), np.asarray(identities_right)
    if left.ndim != 1 or left.shape != right.shape:
        raise UserError(
            f"One left and one right identity a pair: got {left.shape} and {right.shape}.",
            "Pass the identities in the order of the pairs.",
        )
    everyone = _universe(universe, left, right)
    draw = _draw(len(everyone), replicates, seed)
    first = draw[:, _positions(left, everyone)]
    return np.where(left == right, first, first * draw[:, _positions(right, everyone)])


def weighted_mean(values: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Mean of ``values`` (n,) under each row of ``weights`` (replicates, n), -> (replicates,).

    NaN where a row has no weight; a NaN among the values makes every replicate NaN: nothing is dropped
    silently.
    """
    items = np.asarray(values, dtype=np.float64)
    _check_weights(items, weights)
    # einsum and not a matrix product: the sum does not depend on the number of threads
    totals = np.einsum("bn->b", weights)
    sums = np.einsum("bn,n->b", weights, items)
    means: FloatArray = np.divide(sums, totals, out=np.full(len(weights), np.nan), where=totals > 0)
    return means


def weighted_auc(scores: npt.ArrayLike, same: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """``verification.auc`` under each row of ``weights`` (replicates, m), -> (replicates,).

    NaN where a row leaves no genuine or no impostor pair.
    """
    score, label = check_scores(scores, same)
    _check_weights(score, weights)
    result = np.full(len(weights), np.nan)
    for rows, genuine, impostors in _accepted_weight(score, label, weights):
        pairs = genuine[:, 0] * impostors[:, 0]
        ties = np.einsum("bg,bg->b", -np.diff(impostors), genuine[:, 1:] + genuine[:, :-1])
        np.divide(ties / 2, pairs, out=result[rows], where=pairs > 0)
    return result


def weighted_eer(scores: npt.ArrayLike, same: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """``verification.eer`` under each row of ``weights`` (replicates, m), -> (replicates,).

    NaN where a row leaves no genuine or no impostor pair.
    """
    score, label = check_scores(scores, same)
    _check_weights(score, weights)
    result = np.full(len(weights), np.nan)
    for rows, genuine, impostors in _accepted_weight(score, label, weights):
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = crossing(impostors / impostors[:, :1], 1 - genuine / genuine[:, :1])
        result[rows] = np.where((genuine[:, 0] > 0) & (impostors[:, 0] > 0), rates, np.nan)
    return result


def percentile_interval(replicates: npt.ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """The middle ``level`` of the replicates; None where fewer than half of them have a value.

    Replicates that are NaN (identities drawn so that nothing was left to measure) are dropped.
    """
    if not 0 < level < 1:
        raise UserError(f"The level of an interval lies between 0 and 1, got {level}.", "Try level=0.95.")
    values = np.asarray(replicates, dtype=np.float64)
    present = values[np.isfinite(values)]
    if len(present) == 0 or 2 * len(present) < len(values):
        return None
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_interval(replicates: npt.ArrayLike, value: float, people: int, items: int) -> tuple[float, float] | None:
    """The interval of a share in [0, 1], which near its ends is no narrower than so many people allow.

    Draws of people who are all alike are all alike, and tell of nobody else. Where fewer than ten items' worth is
    missing from 0 or from 1, the interval reaches to the exact binomial limits (Clopper and Pearson 1934) of as many
    independent items as would scatter like the draws, between ``people`` and ``items`` (Korn and Graubard 1998). Where
    nothing is missing, so many people would all be alike in 5% of samples at the limit: 3 / people.

    Args:
        people: who are measured; 0 leaves the percentile interval as it is.
        items: of which it is the share, no fewer than people.
    """
    found = percentile_interval(replicates)
    if found is None or people < 1 or not 0 <= value <= 1:
        return found
    from scipy.special import betaincinv  # A quarter of a second to load.

    variance = float(np.nanvar(np.asarray(replicates, dtype=np.float64), ddof=1))
    independent = value * (1 - value) / variance if variance > 1e-12 else 0.0
    n = min(max(independent, people), max(items, people))
    near = min(value, 1 - value) * n
    if near >= _FEW:
        return found
    hits, tail = value * n, 0.05 if near < 1e-9 else 0.025
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 1e-9 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if n - hits > 1e-9 else 1.0
    return min(found[0], low), max(found[1], high)


def _check_weights(items: npt.NDArray[np.float64], weights: FloatArray) -> None:
    if items.ndim != 1 or weights.ndim != 2 or weights.shape[1] != len(items):
        raise UserError(
            f"Weights must be (replicates, n) for {items.shape} items, got {weights.shape}.",
            "Make them with identity_weights or identity_pair_weights.",
        )


def _accepted_weight(
    scores: FloatArray, same: npt.NDArray[np.bool_], weights: FloatArray
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Blocks of replicates: weight of genuine and impostor pairs accepted, accept-all first."""
    if len(scores) == 0:
        return
    order, starts = tie_groups(scores)
    label = same[order]
    step = max(1, _BLOCK // len(scores))
    for start in range(0, len(weights), step):
        rows = slice(start, start + step)
        ascending = weights[rows][:, order]
        yield rows, _at_or_above(ascending * label, starts), _at_or_above(ascending * ~label, starts)


def _at_or_above(weights: FloatArray, starts: npt.NDArray[np.int64]) -> FloatArray:
    """Weight from each tie group upwards, (b, g + 1), 0 last; summed from the top so that it never rises."""
    groups = np.add.reduceat(weights, starts, axis=1)
    accepted = np.zeros((len(groups), groups.shape[1] + 1))
    np.cumsum(groups[:, ::-1], axis=1, out=accepted[:, -2::-1])
    return accepted
