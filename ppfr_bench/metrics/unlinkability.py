"""Unlinkability: how well scores tell whether two releases show one person, without choosing a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, MetricInfo

__all__ = ["INFOS", "Unlinkability", "binned", "d_sys", "global_measure", "local_measure"]

IntArray = npt.NDArray[np.int64]
_SOURCE = "Gomez-Barrero, Galbally, Rathgeb and Busch, IEEE TIFS 2018"
_MATED_A_BIN = 10
_MOST_BINS = 100

INFOS: tuple[MetricInfo, ...] = tuple(
    MetricInfo(name, version, (0.0, 1.0), "lower_is_better", "share", _SOURCE, description)
    for name, version, description in (
        (
            "d_sys",
            2,
            "How surely releases of one person are linked; what chance gives is unlinkable, 1 is linked surely",
        ),
        ("d_sys_bias", 1, "D_sys of the same scores with shuffled labels: what chance gives"),
    )
)


@dataclass(frozen=True)
class Unlinkability:
    """D_sys with the curve it is the integral of.

    Attributes:
        value: D_sys in [0, 1]; None with a ``reason``.
        bias: what unlinkable scores give, D_sys with shuffled labels, mean of the shuffles; None where ``value`` is.
        n: mated scores.
        non_mated: non-mated scores.
        centres: (b,) middle of each bin of scores; all four arrays are empty where ``value`` is None.
        mated_density: (b,) p(s | mated), integral 1.
        non_mated_density: (b,) p(s | non-mated), integral 1.
        local: (b,) D(s) in [0, 1].
        reason: why there is no value.
    """

    value: float | None
    bias: float | None
    n: int
    non_mated: int
    centres: FloatArray
    mated_density: FloatArray
    non_mated_density: FloatArray
    local: FloatArray
    reason: str = ""


def local_measure(mated: FloatArray, non_mated: FloatArray, omega: float = 1.0) -> FloatArray:
    """D(s) = 2 omega LR / (1 + omega LR) - 1 where omega LR > 1, else 0; LR = p(s | mated) / p(s | non-mated).

    Args:
        mated: (..., b), density or share of the mated scores in each bin.
        non_mated: (..., b), the like.
        omega: prior odds P(mated) / P(non-mated), above 0.

    Returns:
        (..., b) in [0, 1]; 1 where only mated scores fall, 0 where none of either do.
    """
    weighted = omega * mated
    # 2x / (1 + x) - 1 = (x - 1) / (x + 1), x = omega LR, taken times p(s | non-mated): no division by an empty bin
    gap, total = np.broadcast_arrays(weighted - non_mated, weighted + non_mated)
    local: FloatArray = np.divide(gap, total, out=np.zeros(gap.shape), where=gap > 0)
    return local


def global_measure(mated: FloatArray, non_mated: FloatArray, omega: float = 1.0) -> FloatArray:
    """D_sys = sum over bins of D(s) P(s | mated), from counts or weights (..., b) -> (...,); NaN if a kind has none.

    The authors' code integrates by trapezoids, which halves the first and the last bin; the sum is exact.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = mated / mated.sum(axis=-1, keepdims=True)
        other = non_mated / non_mated.sum(axis=-1, keepdims=True)
    total = (local_measure(share, other, omega) * share).sum(axis=-1)
    return np.asarray(np.where(np.isnan(share + other).any(axis=-1), np.nan, total), dtype=np.float64)


def binned(mated: FloatArray, non_mated: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """The bin of each mated and of each non-mated score, and the edges (b + 1,).

    b = n_mated / 10, at most 100 and at least 1, bins of equal width from the lowest score to the highest of both.
    """
    bins = min(max(len(mated) // _MATED_A_BIN, 1), _MOST_BINS)
    scores = np.concatenate([mated, non_mated])
    edges = np.histogram_bin_edges(scores, bins=bins)
    at = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    return at[: len(mated)], at[len(mated) :], edges


def d_sys(
    mated: npt.ArrayLike, non_mated: npt.ArrayLike, omega: float = 1.0, shuffles: int = 20, seed: int = 0
) -> Unlinkability:
    """Global unlinkability D_sys: integral of D(s) p(s | mated) ds, and what chance gives.

    A histogram of few scores looks linkable by chance. How much is measured with the labels shuffled, and stands beside
    the value. It is not subtracted: where scores do tell, hardly any of it is in the value, which is within 0.013 of
    that of endless scores from 0.13 up (120 mated scores; docs/metrics.md).

    Args:
        mated: (n,) scores of two releases of one person, larger or smaller is more alike: only the ratio counts.
        non_mated: (m,) scores of releases of two people.
        omega: prior odds P(mated) / P(non-mated), above 0.
        shuffles: of the labels, at least 1.
        seed: of the shuffles.

    Returns:
        A missing value, with a reason, where there are fewer than 20 mated scores (two bins) or 20 non-mated ones.

    Raises:
        UserError: scores that are not (n,) or not finite, omega not above 0, or no shuffle.
    """
    genuine, others = _check(mated, "mated"), _check(non_mated, "non-mated")
    if not (0 < omega < np.inf) or shuffles < 1:
        raise UserError(
            f"D_sys needs omega above 0 and a shuffle at least, got omega {omega:g} and {shuffles} shuffles.",
            "Try omega=1, shuffles=20.",
        )
    n, m, least = len(genuine), len(others), 2 * _MATED_A_BIN
    if min(n, m) < least:
        nothing = np.empty(0)
        reason = f"D_sys needs {least} mated and {least} non-mated scores, there are {n:,} and {m:,}"
        return Unlinkability(None, None, n, m, nothing, nothing, nothing, nothing, reason)
    first, second, edges = binned(genuine, others)
    bins, width = len(edges) - 1, np.diff(edges)
    counts, other_counts = (np.bincount(at, minlength=bins).astype(np.float64) for at in (first, second))
    bias = _chance(np.concatenate([first, second]), n, bins, omega, shuffles, seed)
    return Unlinkability(
        value=float(global_measure(counts, other_counts, omega)),
        bias=bias,
        n=n,
        non_mated=m,
        centres=(edges[1:] + edges[:-1]) / 2,
        mated_density=counts / n / width,
        non_mated_density=other_counts / m / width,
        local=local_measure(counts / n, other_counts / m, omega),
    )


def _chance(at: IntArray, mated: int, bins: int, omega: float, shuffles: int, seed: int) -> float:
    """D_sys with the labels shuffled, mean: ``at`` is the bin of every score, ``mated`` how many are called mated."""
    random = np.random.RandomState(seed)  # its stream is frozen: records keep their bytes
    drawn = np.array(
        [np.bincount(at[random.permutation(len(at))[:mated]], minlength=bins) for _ in range(shuffles)], np.float64
    )
    return float(global_measure(drawn, np.bincount(at, minlength=bins) - drawn, omega).mean())


def _check(scores: npt.ArrayLike, kind: str) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UserError(
            f"Expected finite {kind} scores of shape (n,), got {values.shape}, "
            f"{int((~np.isfinite(values)).sum())} of them not finite.",
            "Pass one score a comparison; find out which comparison gave none.",
        )
    return values
