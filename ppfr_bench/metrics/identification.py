"""Closed-set identification: whose gallery photo is most like the probe.

Ties are broken at random, in expectation: a matcher that gives every gallery photo the same similarity
is right with chance k / g and no more, wherever the match stands in the gallery.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, MetricInfo

__all__ = ["INFOS", "rank_k_hits", "rank_of_match"]

IntArray = npt.NDArray[np.int64]
_SOURCE = "Phillips, Grother and Micheals, Handbook of Face Recognition 2011, closed-set identification"

INFOS: tuple[MetricInfo, ...] = tuple(
    MetricInfo(
        name=f"rank_{k}",
        version=1,
        range=(0.0, 1.0),
        direction="higher_is_better",
        unit="share",
        source=_SOURCE,
        description=description,
    )
    for k, description in (
        (1, "Share of probes whose most similar gallery photo is of the same person"),
        (10, "Share of probes with a photo of the same person among the ten most similar in the gallery"),
    )
)


def _places(similarities: Any, target_identities: Any, gallery_identities: Any) -> tuple[IntArray, IntArray, IntArray]:
    """Of each target's best true match: photos above it, photos level with it, true ones among those."""
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
            "An attack that cannot tell returns equal similarities; one that failed must raise.",
        )
    match = targets[:, None] == gallery[None, :]
    absent = ~match.any(axis=1)
    if absent.any():
        raise UserError(
            f"{int(absent.sum())} of {len(targets)} targets have no photo in the gallery.",
            "Closed-set identification needs a gallery photo of every target's identity.",
        )
    best = np.where(match, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
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
