"""Verification: are two faces the same person, from one score a pair, larger being more alike.

A pair is accepted where ``score >= threshold``. Scores are (m,) real numbers, ``same`` bool (m,). A score
that is not finite is a UserError: a crash must not read as a recognizer that was defeated. Comparisons that
failed for a known reason (no face found) are entered with ``failed_as_errors``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, MetricInfo

__all__ = [
    "INFOS", "TarAtFar", "VerificationResult", "accuracy_at", "auc", "best_threshold", "detection_error_tradeoff",
    "eer", "failed_as_errors", "impostors_needed", "k_fold_accuracy", "tar_at_far", "threshold_at_far",
]  # fmt: skip

BoolArray = npt.NDArray[np.bool_]
_LFW = "Huang, Ramesh, Berg and Learned-Miller, LFW, UMass TR 07-49, 2007"
_AUC = "Hanley and McNeil, Radiology 1982"
_ISO = "ISO/IEC 19795-1"


def _info(name: str, source: str, description: str) -> MetricInfo:
    direction: Literal["higher_is_better", "lower_is_better"]
    direction = "lower_is_better" if name == "eer" or name.startswith("fnmr") else "higher_is_better"
    return MetricInfo(name, 1, (0.0, 1.0), direction, "share", source, description)


INFOS: tuple[MetricInfo, ...] = (
    _info("accuracy", _LFW, "Share of pairs judged rightly at a threshold chosen on the other folds"),
    _info("accuracy_at_clear_threshold", _LFW, "Share of pairs judged rightly at the clear threshold"),
    _info("auc", _AUC, "Chance that a genuine pair outscores an impostor pair, ties counting half"),
    _info("eer", _ISO, "Error rate where false acceptances and false rejections are equally frequent"),
    _info("tar_at_far_1e-2", _ISO, "Share of genuine pairs accepted where at most 1 impostor in 100 is"),
    _info("tar_at_far_1e-3", _ISO, "Share of genuine pairs accepted where at most 1 impostor in 1,000 is"),
    _info("fnmr_at_fmr_1e-2", _ISO, "Share of genuine pairs rejected where at most 1 impostor in 100 is accepted"),
    _info("fnmr_at_fmr_1e-3", _ISO, "Share of genuine pairs rejected where at most 1 impostor in 1,000 is accepted"),
)


@dataclass(frozen=True)
class VerificationResult:
    """Accuracy over all pairs, ``correct`` bool (m,), and the threshold of each fold, folds ascending."""

    accuracy: float
    correct: BoolArray
    thresholds: FloatArray


@dataclass(frozen=True)
class TarAtFar:
    """True accept rate at a false accept rate of at most ``far``.

    Attributes:
        value: the true accept rate, or None with a ``reason``.
        achieved_far: share of impostors really accepted, at most ``far``; None where ``value`` is.
        threshold: accepted is a score of at least this; None where ``value`` is.
        n: genuine pairs.
        impostors: impostor pairs.
        reason: why there is no value.
    """

    value: float | None
    achieved_far: float | None
    threshold: float | None
    n: int
    impostors: int
    reason: str = ""


def check_scores(scores: npt.ArrayLike, same: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """As float64 (m,) and bool (m,); UserError where shapes or types are wrong or a score is not finite."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(same)
    if score.ndim != 1 or score.shape != label.shape or label.dtype != np.bool_:
        raise UserError(
            f"Expected one score and one bool a pair, got {score.shape} and {label.shape} of {label.dtype}.",
            "Pass scores as (m,) and same as bool (m,), in the order of the pairs.",
        )
    if not np.isfinite(score).all():
        raise UserError(
            f"{int((~np.isfinite(score)).sum())} of {len(score)} pair scores are not finite.",
            "Find out which image gave no embedding; enter a failed comparison with failed_as_errors.",
        )
    return score, label


def failed_as_errors(scores: npt.ArrayLike, same: npt.ArrayLike) -> FloatArray:
    """NaN scores replaced by the worst: below all others for genuine pairs, above all for impostors.

    For comparisons known to have failed (no face found): they count as errors, at every threshold between the
    scores of the others, and are never dropped.
    """
    score, label = np.array(scores, dtype=np.float64), np.asarray(same, dtype=np.bool_)
    failed = np.isnan(score)
    present = score[~failed]
    low, high = (float(present.min()), float(present.max())) if present.size else (0.0, 0.0)
    margin = 1 + high - low
    score[failed] = np.where(label[failed], low - margin, high + margin)
    return score


def tie_groups(scores: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ascending order (m,), and where in it each group of equal scores starts (g,)."""
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]][: len(scores)])
    return order, starts


def _accepted(scores: FloatArray, same: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds (g + 1,) from accept-all to accept-none, genuine and impostor pairs accepted at each."""
    order, starts = tie_groups(scores)
    distinct, label = scores[order][starts], same[order]
    below_genuine = np.r_[0, np.cumsum(np.add.reduceat(label, starts, dtype=np.float64))]
    below_all = np.r_[starts, len(scores)].astype(np.float64)
    middle = distinct[:-1] / 2 + distinct[1:] / 2
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])  # neighbours of one ulp have no middle
    thresholds = np.r_[distinct[0], middle, np.nextafter(distinct[-1], np.inf)]
    genuine = below_genuine[-1] - below_genuine
    return thresholds, genuine, (len(scores) - below_all) - genuine


def best_threshold(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """The threshold of highest accuracy on these pairs: half-way between two neighbouring scores.

    Where several do equally well it is the middle one of them (the lower of two). Finite always: "accept
    all" is the lowest score, "accept none" the next number above the highest.

    Raises:
        UserError: no genuine or no impostor pair; no threshold can be chosen then.
    """
    score, label = check_scores(scores, same)
    if label.all() or not label.any():
        raise UserError(
            f"A threshold needs genuine and impostor pairs, got {label.sum()} and {(~label).sum()}.",
            "Give every fold pairs of both kinds.",
        )
    thresholds, genuine, impostors = _accepted(score, label)
    correct = genuine + (impostors[0] - impostors)
    best = np.flatnonzero(correct == correct.max())
    return float(thresholds[best[(len(best) - 1) // 2]])


def accuracy_at(scores: npt.ArrayLike, same: npt.ArrayLike, threshold: float) -> float:
    """Share of pairs judged rightly at a threshold chosen elsewhere, in [0, 1]; NaN without pairs."""
    score, label = check_scores(scores, same)
    return float(((score >= threshold) == label).mean()) if len(score) else math.nan


def k_fold_accuracy(scores: npt.ArrayLike, same: npt.ArrayLike, fold: npt.ArrayLike) -> VerificationResult:
    """Accuracy where every fold is judged at the threshold that is best on all the others.

    Pairs count equally, so folds of equal size give the mean over folds of the LFW protocol.

    Args:
        scores: (m,); same: bool (m,); fold: int (m,), identity-disjoint between folds.

    Raises:
        UserError: fewer than two folds, or nothing to choose a threshold on.
    """
    score, label = check_scores(scores, same)
    folds = np.asarray(fold)
    names = np.unique(folds)
    if folds.shape != score.shape or len(names) < 2:
        raise UserError(
            f"k-fold accuracy needs a fold for each pair and two folds at least: "
            f"got folds {folds.shape} for {len(score)} pairs, {len(names)} of them different.",
            "Pass the fold of every pair; for a threshold chosen elsewhere use accuracy_at.",
        )
    thresholds = np.array([best_threshold(score[folds != one], label[folds != one]) for one in names])
    correct = (score >= thresholds[np.searchsorted(names, folds)]) == label
    return VerificationResult(float(correct.mean()), correct, thresholds)


def auc(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Chance that a genuine pair outscores an impostor pair, ties counting half; NaN if a kind is missing."""
    score, label = check_scores(scores, same)
    if label.all() or not label.any():
        return math.nan
    _, genuine, impostors = _accepted(score, label)
    ties = -np.diff(impostors) * (genuine[1:] + genuine[:-1])
    return float(ties.sum() / 2 / (genuine[0] * impostors[0]))


def crossing(false_accept: FloatArray, false_reject: FloatArray) -> FloatArray:
    """Where two error curves (..., g + 1) meet, the one falling from 1 to 0, the other rising from 0 to 1.

    Between two neighbouring points the curves are joined by straight lines: what breaking ties at random
    reaches.
    """
    gap = false_accept - false_reject
    at = np.maximum((gap <= 0).argmax(axis=-1), 1)[..., None]  # gap starts at 1, ends at -1

    def pick(curve: FloatArray, index: Any) -> FloatArray:
        return np.take_along_axis(curve, index, axis=-1)[..., 0]

    before, after = pick(gap, at - 1), pick(gap, at)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = before / (before - after)
    low, high = pick(false_accept, at - 1), pick(false_accept, at)
    return np.asarray(low + share * (high - low), dtype=np.float64)


def eer(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
    """Equal error rate, linear between observed points: 0.5 for constant scores; NaN if a kind is missing."""
    score, label = check_scores(scores, same)
    if label.all() or not label.any():
        return math.nan
    _, genuine, impostors = _accepted(score, label)
    return float(crossing(impostors / impostors[0], 1 - genuine / genuine[0]))


def impostors_needed(far: float) -> int:
    """Impostor pairs below which a false accept rate is not measured: 10 / far."""
    if not 0 < far < 1:
        raise UserError(f"A false accept rate lies between 0 and 1, got {far}.", "Try far=1e-2.")
    return math.ceil(10 / far - 1e-6)


def threshold_at_far(impostor_scores: npt.ArrayLike, far: float) -> float:
    """The lowest threshold at which at most ``far`` of the impostors are accepted; equal ones fall together.

    Raises:
        UserError: fewer impostors than 10 / far, or a score that is not finite.
    """
    scores = np.asarray(impostor_scores, dtype=np.float64)
    check_scores(scores, np.zeros(scores.shape, dtype=np.bool_))
    needed = impostors_needed(far)
    if len(scores) < needed:
        raise UserError(
            f"A false accept rate of {far:g} needs {needed:,} impostor pairs, got {len(scores):,}.",
            "Add impostor pairs, or ask for a larger rate.",
        )
    allowed = math.floor(far * len(scores) + 1e-9)
    first_refused = np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed]
    return float(np.nextafter(first_refused, np.inf))


def tar_at_far(scores: npt.ArrayLike, same: npt.ArrayLike, far: float) -> TarAtFar:
    """Share of genuine pairs accepted where at most ``far`` of the impostors are, without interpolation.

    Missing, with a reason, where there are fewer impostors than 10 / far, or no genuine pair.
    """
    score, label = check_scores(scores, same)
    impostors, genuine = score[~label], score[label]
    needed = impostors_needed(far)
    if len(impostors) < needed or len(genuine) == 0:
        reason = "there are no genuine pairs"
        if len(impostors) < needed:
            reason = f"FAR {far:g} needs {needed:,} impostor pairs, there are {len(impostors):,}"
        return TarAtFar(None, None, None, len(genuine), len(impostors), reason)
    threshold = threshold_at_far(impostors, far)
    return TarAtFar(
        value=float((genuine >= threshold).mean()),
        achieved_far=float((impostors >= threshold).mean()),
        threshold=threshold,
        n=len(genuine),
        impostors=len(impostors),
    )


def detection_error_tradeoff(genuine: npt.ArrayLike, impostors: npt.ArrayLike) -> list[tuple[float, float]]:
    """Points (FMR, FNMR) of the curve that ISO/IEC 19795-1 plots, from the most impostors accepted to the fewest.

    FMR is the share of impostors accepted, at most 0.5, 0.2, 0.1, 0.05 and so on; FNMR that of genuine pairs rejected
    at the same threshold. Rates that fewer than ten impostors decide are left out.

    Args:
        genuine: (n,) scores, larger is more alike; ``impostors``: (m,).
    """
    mine, others = np.asarray(genuine, dtype=np.float64), np.asarray(impostors, dtype=np.float64)
    rates = [share * 10.0**-power for power in range(1, 6) for share in (5, 2, 1)]
    possible = [rate for rate in rates if len(mine) and len(others) >= impostors_needed(rate)]
    thresholds = [threshold_at_far(others, rate) for rate in possible]
    return [(float((others >= t).mean()), float((mine < t).mean())) for t in thresholds]
