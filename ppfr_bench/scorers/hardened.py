"""Hardened: what a hardened recognizer still identifies, how it agrees with its target, and what is certified of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ppfr_bench.api import Recognizer
from ppfr_bench.errors import UserError
from ppfr_bench.metrics.intervals import weighted_mean
from ppfr_bench.metrics.leakage import retention
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.robustness import graph as stages
from ppfr_bench.robustness.api import certified_at
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate, mean, measurement

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

RADII = {"l2": (0, 0.25, 0.5, 0.75, 1, 1.5, 2), "l1": (0.5, 1, 2), "linf": (1 / 255, 2 / 255)}
_NAMES = {1 / 255: "1_of_255", 2 / 255: "2_of_255"}


class Hardened(Scorer):
    """It scores no attack but the recognizer itself, on photos that nobody has changed."""

    version = 1
    title = "identification by a hardened recognizer"
    metrics = ("clean_accuracy", "agreement", "service_queries", "certified_accuracy", "certified_radius", "retention")

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """The service, the hardening, what it decides and what is certified of that; and the same of the ceiling."""
        return {
            "service": stages.service_stage(graph),
            "hardened": stages.hardened_stage(graph, cell.defense),
            "certified": stages.certified_stage(graph, cell.defense),
            "ceiling": stages.certified_stage(graph, graph.ceiling),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Never called."""
        raise UserError("the scorer 'hardened' scores recognizers, no attack", "Name another in `measures`.")

    def utility(
        self, inputs: Mapping[str, Arrays], recognizer: Recognizer | None, truth: Truth, bootstrap: Bootstrap
    ) -> tuple[dict[str, Measurement], dict[str, Any]]:
        """Accuracy beside the target's, agreement, queries and the certified accuracy at each radius."""
        service, found = inputs["service"], inputs["certified"]
        identities = truth.dataset.evaluation.identities[np.asarray(service["test"])]
        labels = np.searchsorted(np.asarray(service["people"]), identities)
        weights, people, n = bootstrap.items(identities), bootstrap.people, len(labels)
        decisions, target = np.asarray(found["decisions"]), np.asarray(service["decisions"])
        right, before = (
            (one == labels).astype(float) for one in (decisions, np.asarray(inputs["ceiling"]["decisions"]))
        )
        chance = 1 / len(service["people"])
        value = retention(float(right.mean()), float(before.mean()), chance)
        drawn = retention(weighted_mean(right, weights), weighted_mean(before, weights), chance)
        out = {
            "retention": measurement("retention", estimate(value, n, np.asarray(drawn), keep=True)),
            "clean_accuracy": measurement("clean_accuracy", mean(right, weights, people)),
            "target_accuracy": measurement("clean_accuracy", mean(before, weights, people)),
            "agreement": measurement("agreement", mean((decisions == target).astype(float), weights, people)),
            "service_queries": measurement(
                "service_queries", estimate(float(np.asarray(inputs["hardened"]["queries"])), 1)
            ),
        }  # fmt: skip
        classes = np.asarray(found["classes"])
        for norm, radii in RADII.items():
            certified = np.asarray(found[f"radius_{norm}"])
            for radius in radii:
                share = mean(certified_at(radius, classes, certified, labels), weights, people)
                name = f"certified_{norm}_{_NAMES.get(radius, f'{radius:g}')}"
                out[name] = measurement("certified_accuracy", share)
        where_right = np.where(classes == labels, np.asarray(found["radius_l2"]), 0.0)
        out["certified_radius"] = measurement("certified_radius", mean(where_right, weights))
        abstained = float((classes < 0).mean())
        return out, {"people": len(service["people"]), "photos": n, "abstained": round(abstained, 4)}


SCORER = Hardened
