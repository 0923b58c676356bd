"""Worst case: what any change within the radius could do, by the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.records.estimate import Measurement
from ppfr_bench.robustness import graph as stages
from ppfr_bench.robustness.api import REFERENCE
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, compared

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage


class WorstCase(Scorer):
    """Photos that are decided right as they are and not certified within an l2 norm of 1: nobody has proved that no
    change is enough for them. Between none and all that the bare target decides right.
    """

    version = 1
    title = "decisions without a certificate"
    sets = "certified"
    metrics = ("attack_success",)

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects the certified radius of each photo."""
        return "" if answer.ndim == 1 and np.isfinite(answer).all() else f"expected radii (n,), got {answer.shape}"

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """What is decided, and the certified radii; and the same of the bare target."""
        return super().inputs(graph, cell) | {
            "certified": stages.certified_stage(graph, cell.defense),
            "ceiling_certified": stages.certified_stage(graph, graph.ceiling),
            "service": stages.service_stage(graph),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """The share of photos that are right and not certified."""
        service = inputs["service"]
        identities = truth.dataset.evaluation.identities[np.asarray(service["test"])]
        labels = np.searchsorted(np.asarray(service["people"]), identities)

        def open_to(certified: str, answer: str) -> npt.NDArray[np.float64]:
            right = np.asarray(inputs[certified]["decisions"]) == labels
            return np.asarray(right & (inputs[answer]["answer"] < REFERENCE), dtype=np.float64)

        here, most = open_to("certified", "answer"), open_to("ceiling_certified", "ceiling")
        name = f"not_certified_l2_{REFERENCE:g}"
        weights = bootstrap.items(identities)
        return {name: compared("attack_success", here, np.zeros_like(here), most, weights, bootstrap.people, hits=True)}


SCORER = WorstCase
