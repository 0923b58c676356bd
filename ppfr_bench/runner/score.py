"""Score: arrays of one cell become metrics with intervals. The only place that holds originals, names and answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import Pairs
from ppfr_bench.metrics import METRICS, image_metric_names
from ppfr_bench.metrics import verification as verify
from ppfr_bench.metrics.attributes import ATTRIBUTES
from ppfr_bench.metrics.identification import FPIRS, SIZES, open_set, rank_1_at, rank_k_hits
from ppfr_bench.metrics.intervals import (
    identity_pair_weights,
    identity_weights,
    percentile_interval,
    weighted_auc,
    weighted_eer,
    weighted_mean,
)
from ppfr_bench.metrics.leakage import leakage, leakage_reason, retention
from ppfr_bench.metrics.unlinkability import binned, d_sys, global_measure
from ppfr_bench.results import MetricValue

Array = npt.NDArray[Any]
CHANCE = 0.5  # verification accuracy of a coin
FAR = {"tar_at_far_1e-2": 1e-2, "tar_at_far_1e-3": 1e-3}
LEAKING = ("lpips", "ssim", "ms_ssim")  # PSNR is unbounded: a share of it means nothing


def metric(
    name: str,
    value: float | None,
    n: int,
    replicates: Array | None = None,
    *,
    keep: bool = False,
    reason: str = "",
) -> MetricValue:
    """A metric for the record: six significant digits, the interval from the replicates, a reason where none is."""
    info = METRICS[name]
    if value is not None and not math.isfinite(value):
        value, reason = None, reason or "not finite"
    interval: tuple[float, float] | None = None
    kept: tuple[float, ...] = ()
    if value is not None and replicates is not None and np.isfinite(replicates).any():
        found = percentile_interval(replicates)
        interval = found and (_digits(found[0]), _digits(found[1]))
        if keep and np.isfinite(replicates).all():
            kept = tuple(_digits(x, 5) for x in replicates)
    return MetricValue(
        value=None if value is None else _digits(value), interval=interval, n=n, version=info.version,
        direction=info.direction, unit=info.unit, reason=reason if value is None else "", replicates=kept,
    )  # fmt: skip


@dataclass(frozen=True)
class Bootstrap:
    """Draws of identities from ``universe``: the same in every cell, so that all its numbers compare pair by pair."""

    replicates: int
    seed: int
    universe: Array

    def items(self, identities: Array) -> Array:
        return identity_weights(identities, self.replicates, self.seed, universe=self.universe)

    def pairs(self, identities: Array, pairs: Pairs) -> Array:
        left, right = identities[pairs.left], identities[pairs.right]
        return identity_pair_weights(left, right, self.replicates, self.seed, universe=self.universe)


def verification(scores: Array, pairs: Pairs, identities: Array, bootstrap: Bootstrap) -> dict[str, MetricValue]:
    """Accuracy (threshold from the other folds), AUC, EER and TAR@FAR of one set of pair scores."""
    weights = bootstrap.pairs(identities, pairs)
    result = verify.k_fold_accuracy(scores, pairs.same, pairs.fold)
    n = len(pairs)
    out = {
        "accuracy": metric("accuracy", result.accuracy, n, _accuracy_replicates(result.correct, pairs, weights)),
        "auc": metric("auc", verify.auc(scores, pairs.same), n, weighted_auc(scores, pairs.same, weights)),
        "eer": metric("eer", verify.eer(scores, pairs.same), n, weighted_eer(scores, pairs.same, weights)),
    }
    for name, far in FAR.items():
        out[name] = _tar(name, far, scores, pairs.same, weights[:, pairs.same])
    return out


def utility(
    protected: Array, clear: Array, pairs: Pairs, identities: Array, frozen: float, bootstrap: Bootstrap
) -> dict[str, MetricValue]:
    """What a recognizer still does on protected pairs, beside what it does on the clear ones."""
    out = verification(protected, pairs, identities, bootstrap)
    weights, n = bootstrap.pairs(identities, pairs), len(pairs)
    kept = verify.k_fold_accuracy(protected, pairs.same, pairs.fold)
    before = verify.k_fold_accuracy(clear, pairs.same, pairs.fold)
    now, then = (_accuracy_replicates(r.correct, pairs, weights) for r in (kept, before))
    at_frozen = (protected >= frozen) == pairs.same
    out["accuracy_frozen"] = metric(
        "accuracy", float(at_frozen.mean()), n, _accuracy_replicates(at_frozen, pairs, weights)
    )
    out["clear_accuracy"] = metric("accuracy", before.accuracy, n, then)
    out["retention"] = metric(
        "retention",
        retention(kept.accuracy, before.accuracy, CHANCE),
        n,
        retention(now, then, CHANCE),
        keep=True,
    )
    return out


def appearance(
    answer: dict[str, Array],
    blind: dict[str, Array],
    ceiling: dict[str, Array],
    identities: Array,
    bootstrap: Bootstrap,
) -> dict[str, MetricValue]:
    """Likeness of reconstructions to the originals, between the best blind answer and the undefended attack."""
    weights, n = bootstrap.items(identities), len(identities)
    out = {}
    for name in image_metric_names():
        for suffix, values in (("", answer), ("_blind", blind), ("_ceiling", ceiling)):
            out[name + suffix] = metric(name, float(values[name].mean()), n, weighted_mean(values[name], weights))
        if name in LEAKING:
            out[f"leakage_{name}"] = _leakage(answer[name], blind[name], ceiling[name], weights,
                                              METRICS[name].direction == "lower_is_better")  # fmt: skip
    return out


def linkage(
    answer: Array, ceiling: Array, targets: Array, gallery: Array, bootstrap: Bootstrap
) -> dict[str, MetricValue]:
    """How often the right person of a clear gallery is named, between chance and the same attack without a defense.

    ``answer`` and ``ceiling`` are similarities (targets, gallery); ``targets`` and ``gallery`` identities.
    """
    weights, n = bootstrap.items(targets), len(targets)
    blind = np.zeros_like(answer)  # all alike: whoever is named is named by chance
    out = {}
    for k in (1, 10):
        if k > len(gallery) // 2:
            continue
        hits = [rank_k_hits(scores, targets, gallery, k) for scores in (answer, blind, ceiling)]
        for suffix, values in zip(("", "_blind", "_ceiling"), hits, strict=True):
            out[f"rank_{k}{suffix}"] = metric(f"rank_{k}", float(values.mean()), n, weighted_mean(values, weights))
        out[f"leakage_rank_{k}"] = _leakage(hits[0], hits[1], hits[2], weights, False)
    same = targets[:, None] == gallery[None, :]
    genuine = np.repeat(weights, same.sum(axis=1), axis=1)
    for suffix, scores in (("", answer), ("_ceiling", ceiling)):
        for name, far in FAR.items():
            out[name + suffix] = _tar(name, far, scores.ravel(), same.ravel(), genuine)
    largest = len(gallery) - int(same.sum(axis=1).max()) + 1  # the match and every photo of the others
    sizes = [size for size in SIZES if size <= largest]
    for suffix, scores in (("", answer), ("_ceiling", ceiling)):
        for size, values in zip(sizes, rank_1_at(scores, targets, gallery, sizes), strict=True):
            name = f"rank_1_of_{size}"
            out[name + suffix] = metric(name, float(values.mean()), n, weighted_mean(values, weights))
        for name, fpir in FPIRS.items():
            found = open_set(scores, targets, gallery, fpir)
            replicates = None if found.missed is None else weighted_mean(found.missed, weights)
            out[name + suffix] = metric(name, found.value, n, replicates, reason=found.reason)
    return out


def attributes(
    answer: Array, blind: Array, ceiling: Array, truth: Array, identities: Array, bootstrap: Bootstrap
) -> dict[str, MetricValue]:
    """How far off each attribute is, beside the same attack on a black picture and without a defense.

    All but ``identities`` are (targets, attributes).
    """
    weights, n = bootstrap.items(identities), len(identities)
    out = {}
    for i, name in enumerate(ATTRIBUTES):
        spread = max(float(truth[:, i].var()), 1e-12)
        errors = [(values[:, i] - truth[:, i]) ** 2 / spread for values in (answer, blind, ceiling)]
        for suffix, values in zip(("", "_blind", "_ceiling"), errors, strict=True):
            out[name + suffix] = metric("attribute_error", float(values.mean()), n, weighted_mean(values, weights))
        out[f"leakage_{name}"] = _leakage(errors[0], errors[1], errors[2], weights, True)
    return out


def unlinkability(
    answer: Array, ceiling: Array, targets: Array, gallery: Array, bootstrap: Bootstrap
) -> dict[str, MetricValue]:
    """How surely two releases of one person are linked, beside the same attack without a defense.

    ``answer`` and ``ceiling`` are similarities (targets, gallery) of releases; ``targets`` and ``gallery`` identities.
    """
    weights, n = bootstrap.items(targets), len(targets)
    same = targets[:, None] == gallery[None, :]
    out = {}
    for suffix, scores in (("", answer), ("_ceiling", ceiling)):
        found = d_sys(scores[same], scores[~same])
        replicates = None if found.value is None else found.value + _d_sys_spread(scores, same, weights)
        out[f"d_sys{suffix}"] = metric("d_sys", found.value, found.n, replicates, reason=found.reason)
        out[f"d_sys_bias{suffix}"] = metric("d_sys_bias", found.bias, found.n, reason=found.reason)
        hits = rank_k_hits(scores, targets, gallery, 1)
        out[f"rank_1{suffix}"] = metric("rank_1", float(hits.mean()), n, weighted_mean(hits, weights))
    return out


def _d_sys_spread(scores: Array, same: Array, weights: Array) -> Array:
    """D_sys under each row of ``weights`` (replicates, targets), less their mean.

    People drawn twice make a histogram lumpier and D_sys larger: the draws tell how far it scatters, not about what.
    """
    mated, others, edges = binned(scores[same], scores[~same])
    rows = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    bins = len(edges) - 1
    by_target = (
        np.bincount(rows[of] * bins + at, minlength=len(scores) * bins).reshape(-1, bins).astype(float)
        for of, at in ((same, mated), (~same, others))
    )
    replicates = global_measure(*(np.einsum("bt,tk->bk", weights, counts) for counts in by_target))
    return np.asarray(replicates - replicates[np.isfinite(replicates)].mean()) if len(replicates) else replicates


def _tar(name: str, far: float, scores: Array, same: Array, weights: Array) -> MetricValue:
    """``weights`` are those of the genuine pairs, in order; the threshold stays where all impostors put it."""
    found = verify.tar_at_far(scores, same, far)
    if found.threshold is None:
        return metric(name, None, found.n, reason=found.reason)
    accepted = (scores[same] >= found.threshold).astype(float)
    return metric(name, found.value, found.n, weighted_mean(accepted, weights))


def _leakage(answer: Array, blind: Array, ceiling: Array, weights: Array, lower_is_more_alike: bool) -> MetricValue:
    a, b, c = (float(values.mean()) for values in (answer, blind, ceiling))
    value = leakage(a, b, c, lower_is_more_alike)
    a_, b_, c_ = (weighted_mean(values, weights) for values in (answer, blind, ceiling))
    replicates = leakage(a_, b_, c_, lower_is_more_alike)
    reason = leakage_reason(a, b, c, lower_is_more_alike)
    return metric("leakage", value, len(answer), replicates, keep=True, reason=reason)


def _accuracy_replicates(correct: Array, pairs: Pairs, weights: Array) -> Array:
    """Mean of the two classes' rates, so that a draw with more impostor pairs does not shift the accuracy."""
    same, other = pairs.same, ~pairs.same
    share = same.mean()
    return np.asarray(
        share * weighted_mean(correct[same].astype(float), weights[:, same])
        + (1 - share) * weighted_mean(correct[other].astype(float), weights[:, other])
    )


def _digits(value: float, digits: int = 6) -> float:
    """Rounded to significant digits: sums may differ in the last bits between runs, records should not.

    By way of twelve digits: 5/128 and its neighbours in the last bit would else fall on either side of a half.
    """
    return float(f"{float(f'{value:.12g}'):.{digits}g}")
