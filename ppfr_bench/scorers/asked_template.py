"""Asked templates: what a client that chooses its probes makes of a template from the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, sizes
from ppfr_bench.scorers.bootstrap import Array, Bootstrap
from ppfr_bench.scorers.rebuilt_identity import accepted, between

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

_PREFIX = "template_"  # An embedding has floors that no face has: the mean of all is accepted as many people.


class AskedTemplate(Scorer):
    """As of rebuilt faces, of embeddings: the recognizer that made it judges, and the ceiling is the template.

    A method cannot hide its answers. So what is regained is not held against the same attack on plain templates, which
    regains as much, but against the template itself.
    """

    version = 1
    title = "templates rebuilt from a few answers"
    sets = "irreversibility"
    metrics = ("template_type_1", "template_type_2", "leakage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects finite floats (targets, d)."""
        if answer.ndim != 2 or len(answer) != targets or answer.dtype.kind != "f" or not np.isfinite(answer).all():
            return f"expected finite floats ({targets}, d), got {answer.dtype} {answer.shape}"
        return ""

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """The answer, and embeddings of clear photos by the recognizer of the system."""
        assert cell.attack is not None and cell.recognizer is not None, "attacks on templates need a recognizer"
        return {
            "answer": graph.attack(cell.defense, cell.attack, cell.recognizer),
            "clear": graph.embed(cell.recognizer, "evaluation"),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Both types."""
        here, most = (_accepted(rows, inputs, truth) for rows in (inputs["answer"]["answer"], _perfect(inputs, truth)))
        return between(here, most, truth, bootstrap, _PREFIX)

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """What is regained after parts of the queries."""
        most, found = _accepted(_perfect(inputs, truth), inputs, truth), {}
        for size, key in sizes(inputs["answer"]).items():
            here = _accepted(inputs["answer"][key], inputs, truth)
            found[size] = {
                _PREFIX + name: leakage(
                    float(here[name].mean()), float(here[f"{name} floor"].mean()), float(most[name].mean())
                )
                for name in ("type_1", "type_2")
            }
        return found


def _perfect(inputs: Mapping[str, Arrays], truth: Truth) -> Array:
    return np.asarray(inputs["clear"]["embeddings"])[truth.dataset.targets]


def _accepted(rows: Array, inputs: Mapping[str, Arrays], truth: Truth) -> dict[str, Array]:
    return accepted(np.asarray(rows), np.asarray(inputs["clear"]["embeddings"]), truth)


SCORER = AskedTemplate
