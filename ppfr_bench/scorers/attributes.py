"""Attributes: how far off what is read off a protected face is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import FloatArray
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes
from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, sizes, wrong_array
from ppfr_bench.scorers.bootstrap import Bootstrap, compared

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage


class Attributes(Scorer):
    """Squared error of each attribute, between the best answer that ignores the target and the same attack undefended.

    Answers that ignore the target are those to a black image and to releases of other people.
    """

    version = 2
    title = "attributes read off a protected face"
    sets = "attribute"
    metrics = ("attribute_error", "leakage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects finite floats (targets, attributes)."""
        return wrong_array(answer, (targets, len(ATTRIBUTES)), images=False)

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """As every scorer, and the answer where a black image is released."""
        assert cell.attack is not None, "scorers score attacks"
        return super().inputs(graph, cell) | {"floor": graph.attack(graph.floor, cell.attack)}

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """What is regained of each attribute."""
        real = _real(truth)
        black, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("floor", "ceiling"))
        found: dict[int, dict[str, float]] = {}
        for size, key in sizes(inputs["answer"]).items():
            answer = np.asarray(inputs["answer"][key])
            for i, name in enumerate(ATTRIBUTES):
                here, blind, most = (float(one.mean()) for one in _errors(real, i, answer, black, ceiling, truth))
                found.setdefault(size, {})[name] = leakage(here, blind, most, lower_is_more_alike=True)
        return found

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """As shares of the attribute's variance among the targets."""
        weights = bootstrap.items(truth.targets)
        real = _real(truth)
        answer, black, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("answer", "floor", "ceiling"))
        out = {}
        for i, name in enumerate(ATTRIBUTES):
            here, floor, most = _errors(real, i, answer, black, ceiling, truth)
            out[name] = compared("attribute_error", here, floor, most, weights, bootstrap.people)
        return out


def _real(truth: Truth) -> FloatArray:
    return read_attributes(truth.dataset.evaluation.load(truth.dataset.targets))


def _errors(
    real: FloatArray, i: int, answer: FloatArray, black: FloatArray, ceiling: FloatArray, truth: Truth
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of attribute ``i``, (n,) each: of the answer, of the best one that ignores the target, and of the ceiling."""
    spread = max(float(real[:, i].var()), 1e-12)
    here, blind, another, most = (
        (values[:, i] - real[:, i]) ** 2 / spread for values in (answer, black, answer[truth.of_another], ceiling)
    )
    return here, min(blind, another, key=lambda errors: float(errors.mean())), most


SCORER = Attributes
