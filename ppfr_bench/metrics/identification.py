"""Identification: whose gallery photo is most like the probe, and is the person in the gallery at all.

Ties are broken at random, in expectation: a matcher that gives every gallery photo the same similarity
is right with chance k / g and no more, wherever the match stands in the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, MetricInfo
from ppfr_bench.metrics.verification import impostors_needed, threshold_at_far

__all__ = ["FPIRS", "INFOS", "SIZES", "OpenSet", "open_set", "rank_1_at", "rank_k_hits", "rank_of_match"]

IntArray = npt.NDArray[np.int64]
SIZES = (10, 30, 100, 300, 1000)  # galleries of the rank-1 curve
FPIRS = {"fnir_at_fpir_1e-1": 1e-1, "fnir_at_fpir_1e-2": 1e-2}
_SOURCE = "Phillips, Grother and Micheals, Handbook of Face Recognition 2011, closed-set identification"


def _info(name: str, source: str, description: str) -> MetricInfo:
    direction: Literal["higher_is_better", "lower_is_better"]
    direction = "lower_is_better" if name.startswith("fnir") else "higher_is_better"
    return MetricInfo(name, 1, (0.0, 1.0), direction, "share", source, description)


INFOS: tuple[MetricInfo, ...] = (
    _info("rank_1", _SOURCE, "Share of probes whose most similar gallery photo is of the same person"),
    _info("rank_10", _SOURCE,
          "Share of probes with a photo of the same person among the ten most similar in the gallery"),
    *(
        _info(f"rank_1_of_{size}", _SOURCE,
              f"Rank-1 expected in a random gallery of {size} photos, the match among them")
        for size in SIZES
    ),
    *(
        _info(name, "ISO/IEC 19795-1", f"Share of searches missing the person where at most 1 in {1 / fpir:.0f} "
              "searches for somebody absent returns anybody")
        for name, fpir in FPIRS.items()
    ),
)  # fmt: skip


@dataclass(frozen=True)
class OpenSet:
    """False negative identification rate at a false positive identification rate of at most ``fpir``.

    Attributes:
        value: the FNIR, or None with a ``reason``.
        missed: bool (t,), whether each mated search misses its person; None where ``value`` is.
        achieved_fpir: share of non-mated searches that really return somebody; None where ``value`` is.
        threshold: returned is a photo with a similarity of at least this; None where ``value`` is.
        n: mated searches, and as many non-mated ones.
        reason: why there is no value.
    """

    value: float | None
    missed: npt.NDArray[np.bool_] | None
    achieved_fpir: float | None
    threshold: float | None
    n: int
    reason: str = ""


def _checked(
    similarities: Any, target_identities: Any, gallery_identities: Any
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """The similarities (t, g), where they are of true matches (t, g), and each target's best true match (t, 1)."""
    scores = np.asarray(similarities)
    targets, gallery = np.asarray(target_identities), np.asarray(gallery_identities)
    if targets.ndim != 1 or gallery.ndim != 1 or scores.shape != (len(targets), len(gallery)):
        raise UserError(
            f"Expected similarities of shape ({targets.size}, {gallery.size}), got {scores.shape}.",
            "One row a target, one column a gallery photo.",
        )
    if not np.isfinite(scores).all():
        raise UserError(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} similarities are not finite.",
            "An attack without an answer returns equal similarities; an attack that fails must raise.",
        )
    match = targets[:, None] == gallery[None, :]
    absent = ~match.any(axis=1)
    if absent.any():
        raise UserError(
            f"{int(absent.sum())} of {len(targets)} targets have no photo in the gallery.",
            "Closed-set identification needs a gallery photo of every target's identity.",
        )
    return scores, match, np.where(match, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]


def _places(similarities: Any, target_identities: Any, gallery_identities: Any) -> tuple[IntArray, IntArray, IntArray]:
    """Of each target's best true match: photos above it, photos level with it, true ones among those."""
    scores, match, best = _checked(similarities, target_identities, gallery_identities)
    level = scores == best
    above = (scores > best).sum(axis=1)
    return above, level.sum(axis=1), (level & match).sum(axis=1)


def rank_of_match(
    similarities: npt.ArrayLike, target_identities: npt.ArrayLike, gallery_identities: npt.ArrayLike
) -> IntArray:
    """Rank of each target's best true match, 1 = top; the expected rank, rounded up, where photos are level.

    Args:
        similarities: (t, g), larger is more alike.
        target_identities: (t,).
        gallery_identities: (g,), repeats allowed.

    Raises:
        UserError: shapes do not fit, a similarity is not finite, or a target has no gallery photo.
    """
    above, level, true = _places(similarities, target_identities, gallery_identities)
    # The first of c true photos among T in random order stands at (T + 1) / (c + 1) in expectation.
    return np.asarray(above - (-(level + 1) // (true + 1)), dtype=np.int64)


def rank_k_hits(
    similarities: npt.ArrayLike, target_identities: npt.ArrayLike, gallery_identities: npt.ArrayLike, k: int
) -> FloatArray:
    """Chance that a true match of each target is among the top k when level photos are put in random order.

    Args:
        similarities: (t, g), larger is more alike.
        target_identities: (t,).
        gallery_identities: (g,), repeats allowed.
        k: at least 1.

    Returns:
        (t,) in [0, 1]: 0 or 1 without ties; k / g for constant similarities and one photo an identity.

    Raises:
        UserError: as ``rank_of_match``, or k below 1.
    """
    if k < 1:
        raise UserError(f"Rank-k needs k of at least 1, got {k}.", "Try k=1.")
    above, level, true = _places(similarities, target_identities, gallery_identities)
    slots = np.clip(k - above, 0, level)
    missed = np.ones(len(above))
    for place in range(int(true.max(initial=0))):  # over photos of one identity, usually one
        left = np.maximum(level - slots - place, 0) / np.maximum(level - place, 1)
        missed = np.where(place < true, missed * left, missed)
    return np.asarray(np.where(true == 1, slots / level, 1 - missed), dtype=np.float64)


def rank_1_at(
    similarities: npt.ArrayLike,
    target_identities: npt.ArrayLike,
    gallery_identities: npt.ArrayLike,
    sizes: Sequence[int],
) -> FloatArray:
    """Chance that the best true match is on top of a random gallery of each size that holds it, ties in expectation.

    The other s - 1 photos are drawn from the N of other people without replacement, A of which are above the match and
    L level with it: P = sum over j of C(L, j) C(N - A - L, s - 1 - j) / C(N, s - 1) / (j + 1), which is
    (C(N - A + 1, s) - C(N - A - L, s)) / ((L + 1) C(N, s - 1)). In whole numbers, so it is exact.

    Args:
        similarities: (t, g), larger is more alike.
        target_identities: (t,).
        gallery_identities: (g,), repeats allowed; of the target's own photos only the best one counts.
        sizes: photos in a gallery, from 1 to the photos of other people + 1.

    Returns:
        (sizes, t) in [0, 1]: 1 / s for constant similarities.

    Raises:
        UserError: as ``rank_of_match``, or a size that cannot be drawn.
    """
    scores, match, best = _checked(similarities, target_identities, gallery_identities)
    others = (~match).sum(axis=1)
    largest = int(others.min(initial=match.shape[1] - 1)) + 1
    if wrong := [size for size in sizes if not 1 <= size <= largest]:
        raise UserError(
            f"Cannot draw galleries of {wrong[0]} photos, one of them the match.", f"Choose 1 to {largest}."
        )
    places = np.stack([others, (scores > best).sum(axis=1), ((scores == best) & ~match).sum(axis=1)], axis=1)
    kinds, kind = np.unique(places, axis=0, return_inverse=True)  # targets that stand alike have one chance
    chances = [
        [
            (comb(n - above + 1, size) - comb(n - above - level, size)) / ((level + 1) * comb(n, size - 1))
            for n, above, level in kinds.tolist()
        ]
        for size in sizes
    ]
    return np.array(chances, dtype=np.float64).reshape(len(sizes), len(kinds))[:, kind.reshape(-1)]


def open_set(
    similarities: npt.ArrayLike, target_identities: npt.ArrayLike, gallery_identities: npt.ArrayLike, fpir: float
) -> OpenSet:
    """FNIR at a threshold that returns anybody in at most ``fpir`` of the searches for somebody absent.

    Every target searches twice: in the whole gallery (mated), and in the gallery without its own photos (non-mated).
    FNIR = share of mated searches whose true match is below the threshold, whatever else is returned. The threshold
    is the lowest that keeps to ``fpir``, without interpolation.

    Args:
        similarities: (t, g), larger is more alike.
        target_identities: (t,).
        gallery_identities: (g,), repeats allowed.
        fpir: above 0, below 1.

    Returns:
        A missing value, with a reason, where there are fewer searches than 10 / fpir or a gallery of one person.

    Raises:
        UserError: as ``rank_of_match``, or a rate outside (0, 1).
    """
    scores, match, best = _checked(similarities, target_identities, gallery_identities)
    n, needed = len(scores), impostors_needed(fpir)
    reason = ""
    if n < needed:
        reason = f"FPIR {fpir:g} needs {needed:,} non-mated searches, there are {n:,}"
    elif match.all(axis=1).any():
        reason = "the gallery holds nobody but the person searched for"
    if reason:
        return OpenSet(None, None, None, None, n, reason)
    mated = best[:, 0].astype(np.float64)  # float32 would round the threshold onto a score that it excludes
    loudest = np.where(match, -np.inf, scores).max(axis=1).astype(np.float64)
    threshold = threshold_at_far(loudest, fpir)
    missed = mated < threshold
    return OpenSet(float(missed.mean()), missed, float((loudest >= threshold).mean()), threshold, n)
