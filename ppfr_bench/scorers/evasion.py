"""Evasion: how often a small change of a photo makes a hardened recognizer decide as the attacker wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import SIZE
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.robustness import graph as stages
from ppfr_bench.robustness.api import REFERENCE, certified_at
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, compared, estimate, mean, measurement

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

BoolArray = npt.NDArray[np.bool_]


class Evasion(Scorer):
    """Success by budget between no change at all and the same attack on the bare target.

    An attack succeeds by a budget where any of its changes within it does. It dodges where a photo that is decided
    right as it is is decided otherwise; it impersonates where a photo is decided to be of the person that it wants.
    What leaks is the success within the ``reference`` budget, an l2 norm of 1.
    """

    version = 1
    title = "changed decisions of a hardened recognizer"
    sets = "robustness"
    reference: ClassVar[float] = REFERENCE
    metrics = ("attack_success", "robust_accuracy", "certified_accuracy", "median_perturbation",
               "certificate_violations")  # fmt: skip

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects changes, float16 (budgets, n, 3, 112, 112); how many images there are the track's stage knows."""
        if answer.ndim != 5 or answer.shape[2:] != (3, SIZE, SIZE) or answer.dtype != np.float16:
            return f"expected float16 changes (budgets, n, 3, {SIZE}, {SIZE}), got {answer.dtype} {answer.shape}"
        return "" if np.isfinite(answer).all() else "answered NaN or infinite values"

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """What the attack came to, and the same against the bare target."""
        assert cell.attack is not None, "scorers score attacks"
        return {
            "answer": stages.attacked_stage(graph, cell.defense, cell.attack),
            "ceiling": stages.attacked_stage(graph, graph.ceiling, cell.attack),
            "certified": stages.certified_stage(graph, cell.defense),
            "ceiling_certified": stages.certified_stage(graph, graph.ceiling),
            "service": stages.service_stage(graph),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Success, accuracy that is left and certified by budget; the median smallest change; violations."""
        service, answer = inputs["service"], inputs["answer"]
        identities = truth.dataset.evaluation.identities[np.asarray(service["test"])]
        labels = np.searchsorted(np.asarray(service["people"]), identities)
        weights, people = bootstrap.items(identities), bootstrap.people
        found, before = inputs["certified"], inputs["ceiling_certified"]
        wants = bool(np.asarray(answer["impersonates"]))
        goal = "impersonation" if wants else "dodging"
        here = _succeeded(answer, np.asarray(found["decisions"]), labels)
        undefended = _succeeded(inputs["ceiling"], np.asarray(before["decisions"]), labels)
        right = np.asarray(found["decisions"]) == labels
        missed = np.asarray(answer["decisions"]) != labels
        classes, radii = np.asarray(found["classes"]), np.asarray(found["radius_l2"])
        out: dict[str, Measurement] = {}
        for b, budget in enumerate(np.asarray(answer["budgets"]).tolist()):
            within, most = (np.logical_or.reduce(one[: b + 1]).astype(float) for one in (here, undefended))
            out[f"{goal}_l2_{budget:g}"] = compared(
                "attack_success", within, np.zeros_like(within), most, weights, people, leaks=budget == self.reference,
                hits=True,
            )  # fmt: skip
            left = (right & ~np.logical_or.reduce(missed[: b + 1])).astype(float)
            out[f"robust_l2_{budget:g}"] = measurement("robust_accuracy", mean(left, weights, people))
            out[f"certified_l2_{budget:g}"] = measurement(
                "certified_accuracy", mean(certified_at(budget, classes, radii, labels), weights, people)
            )
        out["median_perturbation"] = measurement("median_perturbation", _median(here, answer))
        broken = float(violations(answer, classes, radii).sum())
        out["violations"] = measurement("certificate_violations", estimate(broken, len(labels)))
        return out

    def flags(self, metrics: Mapping[str, Measurement], *, learned: bool, same_key: bool) -> list[str]:
        """A certificate that an attack refutes, and accuracy under attack that lies below what is certified."""
        found = ["certificate_violated"] if metrics["violations"].value.value else []
        for name, left in metrics.items():
            if name.startswith("robust_l2_"):
                sure = metrics[name.replace("robust", "certified")].value.value
                if left.value.value is not None and sure is not None and left.value.value < sure:
                    found.append("below_certificate")
        return list(dict.fromkeys(found))


def _succeeded(answer: Arrays, unchanged: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> BoolArray:
    """(budgets, n): whether the change of each budget did what its attacker wants, and the photo as it is did not."""
    decisions, wanted = np.asarray(answer["decisions"]), np.asarray(answer["wanted"])
    if bool(np.asarray(answer["impersonates"])):
        return np.asarray((decisions == wanted) & (unchanged != wanted))
    return np.asarray((decisions != labels) & (unchanged == labels))


def violations(answer: Arrays, classes: npt.NDArray[np.int64], radii: npt.NDArray[np.float64]) -> BoolArray:
    """(budgets, n): where the certified class is surely not the one that is decided, within the certified radius."""
    surely, norms = np.asarray(answer["surely"]), np.asarray(answer["norms"])
    return np.asarray((surely >= 0) & (surely != classes) & (classes >= 0) & (norms <= radii) & (radii > 0))


def _median(succeeded: BoolArray, answer: Arrays) -> Any:
    """Of all photos; infinite of one that no change was enough for."""
    least = np.where(succeeded, np.asarray(answer["norms"]), np.inf).min(axis=0)
    middle = float(np.median(least))
    largest = float(np.asarray(answer["budgets"]).max())
    few = f"the attack succeeds on {np.isfinite(least).mean():.0%} of the photos within {largest:g}"
    return estimate(middle if np.isfinite(middle) else None, len(least), reason=few)


SCORER = Evasion
