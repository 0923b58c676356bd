"""Unlinkability: how surely two releases of one person are linked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ppfr_bench.metrics.identification import rank_k_hits
from ppfr_bench.metrics.unlinkability import binned, d_sys, global_measure
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, estimate, mean, measurement


class Unlinkability(Scorer):
    """D_sys of Gomez-Barrero et al. 2018 beside what chance gives, and rank 1; the same without a defense."""

    version = 2
    title = "linking two releases of one person"
    shown = "d_sys"
    metrics = ("d_sys", "d_sys_bias", "rank_1")

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """From similarities (targets, gallery) of releases with releases."""
        weights = bootstrap.items(truth.targets)
        same = truth.targets[:, None] == truth.gallery[None, :]
        found: dict[str, list[Estimate]] = {name: [] for name in self.metrics}
        for scores in (np.asarray(inputs[name]["answer"]) for name in ("answer", "ceiling")):
            linked = d_sys(scores[same], scores[~same])
            draws = None if linked.value is None else linked.value + spread_of_d_sys(scores, same, weights)
            found["d_sys"].append(
                estimate(linked.value, linked.n, draws, reason=linked.reason, people=bootstrap.people)
            )
            found["d_sys_bias"].append(estimate(linked.bias, linked.n, reason=linked.reason))
            found["rank_1"].append(
                mean(rank_k_hits(scores, truth.targets, truth.gallery, 1), weights, bootstrap.people)
            )
        chance = {"d_sys": found["d_sys_bias"][0]}
        return {
            name: measurement(name, here, floor=chance.get(name), ceiling=there)
            for name, (here, there) in found.items()
        }


def spread_of_d_sys(scores: Array, same: Array, weights: Array) -> Array:
    """D_sys under each row of ``weights`` (replicates, targets), less their mean.

    People who are drawn twice make a histogram lumpier and D_sys larger: the draws tell how far it scatters, not about
    what.
    """
    mated, others, edges = binned(scores[same], scores[~same])
    rows = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    bins = len(edges) - 1
    by_target = (
        np.bincount(rows[of] * bins + at, minlength=len(scores) * bins).reshape(-1, bins).astype(float)
        for of, at in ((same, mated), (~same, others))
    )
    draws = global_measure(*(np.einsum("bt,tk->bk", weights, counts) for counts in by_target))
    return np.asarray(draws - draws[np.isfinite(draws)].mean()) if len(draws) else draws


SCORER = Unlinkability
