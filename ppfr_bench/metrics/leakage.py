"""From measures to what is ranked: leakage of an attack, retention of a recognizer, and their harmonic mean.

All functions take floats, or arrays of bootstrap replicates that broadcast, and return the like. Missing
is NaN, never 0: an attack that could not be judged must not make a defense look private.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.base import FloatArray, MetricInfo

__all__ = ["BROKEN", "INFOS", "harmonic_mean", "leakage", "leakage_reason", "retention"]

BROKEN = "the attack does not beat blind even without a defense: it is broken"
_SOURCE = "ppfr-bench, docs/metrics.md"


def _info(name: str, low: float | None, high: float | None, description: str) -> MetricInfo:
    direction: Literal["higher_is_better", "lower_is_better"]
    direction = "lower_is_better" if name == "leakage" else "higher_is_better"
    return MetricInfo(name, 2, (low, high), direction, "share", _SOURCE, description)


INFOS: tuple[MetricInfo, ...] = (
    _info("leakage", 0, 1, "Share of what an attack regains undefended that it regains all the same"),
    _info("appearance_privacy", 0, 1, "1 - the largest leakage over appearance attacks and image measures"),
    _info("identity_privacy", 0, 1, "1 - the largest leakage over identity attacks, given a clear gallery"),
    _info("retention", None, None, "Share of the clear accuracy above chance that is left under protection"),
    _info("harmonic_mean", 0, None, "Harmonic mean of retention and appearance privacy"),
)


def _share(part: npt.ArrayLike, floor: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    """(part - floor) / (whole - floor), NaN where the whole is not above its floor or anything is missing."""
    value, low, high = (np.asarray(one, dtype=np.float64) for one in (part, floor, whole))
    value, low, high = np.broadcast_arrays(value, low, high)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities end as NaN, or at the clip
        span = high - low
        usable = np.isfinite(value) & np.isfinite(span) & (span > 0)
        share: FloatArray = np.divide(value - low, span, out=np.full(value.shape, np.nan), where=usable)
    return share


@overload
def leakage(attack: float, blind: float, ceiling: float, lower_is_more_alike: bool = False) -> float: ...
@overload
def leakage(
    attack: npt.ArrayLike, blind: npt.ArrayLike, ceiling: npt.ArrayLike, lower_is_more_alike: bool = False
) -> FloatArray: ...
def leakage(
    attack: npt.ArrayLike, blind: npt.ArrayLike, ceiling: npt.ArrayLike, lower_is_more_alike: bool = False
) -> float | FloatArray:
    """(m(attack) - m(blind)) / (m(ceiling) - m(blind)), clipped to [0, 1].

    0 = learnt nothing, 1 = as if unprotected.

    Args:
        attack: the measure on what the attack made of protected images.
        blind: the same measure on an answer given without looking (the best of a few mean faces, chance).
        ceiling: the same measure on what the same attack makes of clear images.
        lower_is_more_alike: the measure is a distance (LPIPS), and is turned.

    Returns:
        NaN where the ceiling is not above blind (``leakage_reason`` says so) or a measure is missing.
    """
    sign = -1.0 if lower_is_more_alike else 1.0
    value, low, high = (sign * np.asarray(one, dtype=np.float64) for one in (attack, blind, ceiling))
    clipped = np.clip(_share(value, low, high), 0, 1)
    return float(clipped) if clipped.ndim == 0 else clipped


def leakage_reason(attack: float, blind: float, ceiling: float, lower_is_more_alike: bool = False) -> str:
    """Why ``leakage`` of these floats is missing; empty where it is not."""
    missing = [
        name for name, value in (("attack", attack), ("blind", blind), ("ceiling", ceiling)) if not np.isfinite(value)
    ]
    if missing:
        return f"no value for {', '.join(missing)}"
    above = blind - ceiling if lower_is_more_alike else ceiling - blind
    return "" if above > 0 else BROKEN


@overload
def retention(protected: float, clear: float, chance: float) -> float: ...
@overload
def retention(protected: npt.ArrayLike, clear: npt.ArrayLike, chance: npt.ArrayLike) -> FloatArray: ...
def retention(protected: npt.ArrayLike, clear: npt.ArrayLike, chance: npt.ArrayLike) -> float | FloatArray:
    """(protected - chance) / (clear - chance): 0 for a blank image, 1 for no defense.

    Not clipped, so that noise around chance averages out: a little below 0, or above 1, can occur. NaN
    where clear is not above chance or a measure is missing.
    """
    share = _share(protected, chance, clear)
    return float(share) if share.ndim == 0 else share


@overload
def harmonic_mean(first: float, second: float) -> float: ...
@overload
def harmonic_mean(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray: ...
def harmonic_mean(first: npt.ArrayLike, second: npt.ArrayLike) -> float | FloatArray:
    """2ab / (a + b); 0 where either is not above 0; NaN where either is missing."""
    a, b = np.broadcast_arrays(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    missing, positive = np.isnan(a) | np.isnan(b), (a > 0) & (b > 0)
    mean = np.divide(2 * a * b, a + b, out=np.zeros(a.shape), where=positive)
    mean = np.where(missing, np.nan, mean)
    return float(mean) if mean.ndim == 0 else mean
