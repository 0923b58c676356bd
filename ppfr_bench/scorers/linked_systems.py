"""Linked systems: how surely people are linked between two systems that have a key each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ppfr_bench.metrics.leakage import leakage, leakage_reason
from ppfr_bench.metrics.unlinkability import d_sys
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate, measurement
from ppfr_bench.scorers.linkage import Linkage
from ppfr_bench.scorers.unlinkability import spread_of_d_sys


class LinkedSystems(Linkage):
    """As ``linkage``, with D_sys (Gomez-Barrero et al. 2018) between what chance and what plain templates give."""

    version = 1
    title = "linking people between two systems"
    sets = "unlinkability"
    metrics = (*Linkage.metrics, "linked_d_sys")

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """From similarities (targets, gallery) of templates under the first key with templates under the second."""
        out = super().score(inputs, truth, bootstrap)
        weights = bootstrap.items(truth.targets)
        same = truth.targets[:, None] == truth.gallery[None, :]
        scores = [np.asarray(inputs[name]["answer"]) for name in ("answer", "ceiling")]
        here, there = (d_sys(one[same], one[~same]) for one in scores)
        if here.value is None or here.bias is None or there.value is None:
            reason = here.reason or there.reason
            nothing = estimate(None, here.n, reason=reason)
            return out | {"linked_d_sys": measurement("linked_d_sys", nothing, leakage=nothing)}
        drawn, most = (
            one.value + spread_of_d_sys(of, same, weights) for one, of in zip((here, there), scores, strict=True)
        )
        ends = (here.bias, there.value)
        share = estimate(
            leakage(here.value, *ends), here.n, np.asarray(leakage(drawn, here.bias, most)), keep=True,
            reason=leakage_reason(here.value, *ends), people=bootstrap.people,
        )  # fmt: skip
        value, ceiling = (
            estimate(one.value, one.n, draws, people=bootstrap.people) for one, draws in ((here, drawn), (there, most))
        )
        out["linked_d_sys"] = measurement("linked_d_sys", value, estimate(here.bias, here.n), ceiling, share)
        return out


SCORER = LinkedSystems
