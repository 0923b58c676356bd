"""Linkage: how often the right person of a clear gallery is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ppfr_bench.api import Pairs
from ppfr_bench.metrics import identification, verification
from ppfr_bench.metrics.identification import FPIRS, SIZES, open_set, rank_1_at, rank_k_hits
from ppfr_bench.metrics.intervals import weighted_eer, weighted_mean
from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, sizes
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, compared, estimate, mean, measurement, share_and_draws
from ppfr_bench.scorers.groups import compared_in_groups

FAR = {"tar_at_far_1e-2": 1e-2, "tar_at_far_1e-3": 1e-3}
FOLDS = 10  # At most, of two people at least.


class Linkage(Scorer):
    """Ranks between chance and the same attack without a defense; verification; galleries of all sizes; open set."""

    version = 3
    title = "naming from a clear gallery"
    sets = "identity"
    metrics = (*(info.name for info in identification.INFOS), *FAR, "accuracy", "eer", "leakage")

    def by_group(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
        """How many people of each group are named, beyond chance and of those named undefended."""
        answer, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("answer", "ceiling"))
        weights, numbers = bootstrap.items(truth.targets), {}
        for k in (1, 10):
            if k > len(truth.gallery) // 2:
                continue
            hits = [
                rank_k_hits(scores, truth.targets, truth.gallery, k)
                for scores in (answer, np.zeros_like(answer), ceiling)
            ]
            numbers[f"rank_{k}"] = partial(_regained, hits, weights)
        return compared_in_groups(truth, truth.dataset.targets, numbers)

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """How many people are named, beyond chance and of those named undefended."""
        found = {}
        for size, key in sizes(inputs["answer"]).items():
            answer, ceiling = (np.asarray(one) for one in (inputs["answer"][key], inputs["ceiling"]["answer"]))
            here, blind, most = (
                float(rank_k_hits(scores, truth.targets, truth.gallery, 1).mean())
                for scores in (answer, np.zeros_like(answer), ceiling)
            )
            found[size] = {"rank_1": leakage(here, blind, most)}
        return found

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """From similarities (targets, gallery) of the answer and of the ceiling."""
        answer, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("answer", "ceiling"))
        targets, gallery = truth.targets, truth.gallery
        weights, n, people = bootstrap.items(targets), len(targets), bootstrap.people
        blind = np.zeros_like(answer)  # All are alike: whoever is named is named by chance.
        out: dict[str, Measurement] = {}
        for k in (1, 10):
            if k > len(gallery) // 2:
                continue
            hits = [rank_k_hits(scores, targets, gallery, k) for scores in (answer, blind, ceiling)]
            out[f"rank_{k}"] = compared(f"rank_{k}", hits[0], hits[1], hits[2], weights, people, hits=True)
        same = targets[:, None] == gallery[None, :]
        genuine = np.repeat(weights, same.sum(axis=1), axis=1)
        for name, far in FAR.items():
            rates = [
                true_accept_rate(scores.ravel(), same.ravel(), far, genuine, people) for scores in (answer, ceiling)
            ]
            out[name] = measurement(name, rates[0], ceiling=rates[1])
        verified = [_verified(scores, targets, gallery, bootstrap) for scores in (answer, ceiling)]
        for name, here, there in zip(("accuracy", "eer"), *verified, strict=True):
            out[name] = measurement(name, here, ceiling=there)
        largest = len(gallery) - int(same.sum(axis=1).max()) + 1  # The match and every photo of the others.
        possible = [size for size in SIZES if size <= largest]
        curves = [rank_1_at(scores, targets, gallery, possible) for scores in (answer, ceiling)]
        for size, here, there in zip(possible, *curves, strict=True):
            out[f"rank_1_of_{size}"] = measurement(
                f"rank_1_of_{size}", mean(here, weights, people), ceiling=mean(there, weights, people)
            )
        for name, fpir in FPIRS.items():
            found = [open_set(scores, targets, gallery, fpir) for scores in (answer, ceiling)]
            missed = [
                estimate(
                    one.value,
                    n,
                    None if one.missed is None else weighted_mean(one.missed, weights),
                    reason=one.reason,
                    people=people,
                )
                for one in found
            ]
            out[name] = measurement(name, missed[0], ceiling=missed[1])
        return out


def verification_pairs(targets: Array, gallery: Array) -> Pairs:
    """Two pairs of each target with a gallery photo, as of LFW: its person's, and that of the next person in its fold.

    Args:
        targets: who is on each target, (n,); ``gallery``: on each gallery photo, every person of the targets.

    Returns:
        Pairs whose ``left`` are targets and ``right`` gallery photos, in at most ten folds of disjoint people.
    """
    people, first = np.unique(gallery, return_index=True)
    folds = max(1, min(FOLDS, len(people) // 2))
    who = np.searchsorted(people, targets)
    fold = who % folds
    other = np.where(who + folds < len(people), who + folds, fold)
    right, same = np.concatenate([first[who], first[other]]), np.arange(2 * len(targets)) < len(targets)
    return Pairs(np.tile(np.arange(len(targets)), 2), right, same, np.tile(fold, 2))


def _verified(scores: Array, targets: Array, gallery: Array, bootstrap: Bootstrap) -> tuple[Estimate, Estimate]:
    """Accuracy at the threshold of the other folds, and EER, of ``verification_pairs``."""
    pairs = verification_pairs(targets, gallery)
    if len(np.unique(pairs.fold)) < 2 or (gallery[pairs.right] == targets[pairs.left])[~pairs.same].any():
        few = estimate(None, len(pairs), reason="there are fewer than four people")
        return few, few
    judged, people = scores[pairs.left, pairs.right], bootstrap.people
    weights = bootstrap.between(targets[pairs.left], gallery[pairs.right])
    result = verification.k_fold_accuracy(judged, pairs.same, pairs.fold)
    accuracy = estimate(result.accuracy, len(pairs), accuracy_draws(result.correct, pairs.same, weights), people=people)
    errors = verification.eer(judged, pairs.same)
    return accuracy, estimate(errors, len(pairs), weighted_eer(judged, pairs.same, weights), people=people)


def accuracy_draws(correct: Array, same: Array, weights: Array) -> Array:
    """Mean of the two classes' rates, so that a draw with more impostor pairs does not shift the accuracy."""
    share = same.mean()
    return np.asarray(
        share * weighted_mean(correct[same].astype(float), weights[:, same])
        + (1 - share) * weighted_mean(correct[~same].astype(float), weights[:, ~same])
    )


def _regained(hits: Sequence[Array], weights: Array, rows: Array) -> tuple[float, Array]:
    here, blind, most = (values[rows] for values in hits)
    return share_and_draws(here, blind, most, weights[:, rows], False)


def true_accept_rate(scores: Array, same: Array, far: float, weights: Array, people: int) -> Estimate:
    """TAR at a FAR; the threshold stays where all impostors put it.

    Args:
        weights: of the genuine pairs, in order, (replicates, genuine pairs).
        people: who are measured.
    """
    found = verification.tar_at_far(scores, same, far)
    if found.threshold is None:
        return estimate(None, found.n, reason=found.reason)
    accepted = (scores[same] >= found.threshold).astype(float)
    return estimate(found.value, found.n, weighted_mean(accepted, weights), people=people)


SCORER = Linkage
