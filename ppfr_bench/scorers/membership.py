"""Membership: how surely photos that somebody has learnt from are told from others of the same people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.intervals import weighted_auc
from ppfr_bench.metrics.verification import auc
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.robustness import graph as stages
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate, measurement

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

ROLES = {"enrolled": "", "queried": "_queried"}  # Members, and what the names of their numbers end in.


class Membership(Scorer):
    """Members are the photos that the target was trained on or, apart, those that the hardening was distilled from.

    What leaks is the advantage, 2 AUC - 1 and at least 0, between none and telling all of them apart.
    """

    version = 1
    title = "telling photos that were learnt from"
    sets = "membership"
    metrics = ("membership_auc", "membership_advantage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects a score of each candidate, float (m,)."""
        if answer.ndim != 1 or answer.dtype.kind != "f":
            return f"expected float scores (candidates,), got {answer.dtype} {answer.shape}"
        return "" if np.isfinite(answer).all() else "answered NaN or infinite values"

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """The scores, the same on the bare target, and which photos are which."""
        return super().inputs(graph, cell) | {"service": stages.service_stage(graph)}

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """AUC and advantage for either kind of members; larger scores are of members."""
        service = inputs["service"]
        rows = np.asarray(service["rows"])
        others = np.isin(rows, np.asarray(service["test"]))
        out: dict[str, Measurement] = {}
        for role, ending in ROLES.items():
            members = np.isin(rows, np.asarray(service[role]))
            chosen = members | others
            weights = bootstrap.items(truth.dataset.evaluation.identities[rows[chosen]])
            here, most = (
                _told(np.asarray(inputs[name]["answer"])[chosen], members[chosen], weights)
                for name in ("answer", "ceiling")
            )
            n = int(chosen.sum())
            out[f"membership_auc{ending}"] = measurement(
                "membership_auc", estimate(here[0], n, here[1]), ceiling=estimate(most[0], n, most[1])
            )
            value, draws = (np.clip(2 * np.asarray(one) - 1, 0, 1) for one in here)
            advantage = estimate(float(value), n, draws, keep=True)
            ends = {"floor": Estimate(0.0, n=n), "ceiling": Estimate(1.0, n=n)}
            out[f"membership_advantage{ending}"] = measurement(
                "membership_advantage", advantage, leakage=advantage, **ends
            )
        return out


def _told(scores: Any, members: Any, weights: Any) -> tuple[float, npt.NDArray[np.float64]]:
    return float(auc(scores, members)), weighted_auc(scores, members, weights)


SCORER = Membership
