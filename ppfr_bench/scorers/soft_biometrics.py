"""Soft biometrics: how often an attack answers what classifiers read off the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.metrics.soft_biometrics import CLASSES, COLUMNS, FIRES, WIDTH, read_soft_biometrics
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, sizes, wrong_array
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, compared, mean, measurement

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

ALIKE = 0.75  # Where more of the targets are of one class than this, what is left to tell apart is mostly noise.


class SoftBiometrics(Scorer):
    """Agreement on sex, race group and expression, and the squared error of age, between floor and ceiling.

    Answers that ignore the target are the commonest class of the targets, or their mean age, and what the same attack
    answers to a black image and to releases of other people. Nothing is said to leak of what more than three quarters
    of the targets have in common. Whether a detector finds a face is told beside it, and is no leak.
    """

    version = 2
    title = "soft biometrics read off a protected face"
    sets = "attribute"
    metrics = ("agreement", "attribute_error", "detection_rate", "leakage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects finite floats (targets, 16), the columns of ``ppfr_bench.metrics.soft_biometrics``."""
        return wrong_array(answer, (targets, WIDTH), images=False)

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """As every scorer, and the answer where a black image is released; the originals are read once a data set."""
        assert cell.attack is not None, "scorers score attacks"
        found = super().inputs(graph, cell)
        ceiling = graph.compared(found["ceiling"], cell.scorer, self, label=cell.attack.label)
        return found | {"floor": graph.attack(graph.floor, cell.attack), "ceiling": ceiling}

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """What is regained of age, and of the classes that do leak."""
        found: dict[int, dict[str, float]] = {}
        for size, key in sizes(inputs["answer"]).items():
            for one in _judged(np.asarray(inputs["answer"][key]), inputs, truth):
                if one.leaks:
                    here, blind, most = (float(values.mean()) for values in (one.here, one.floor, one.ceiling))
                    found.setdefault(size, {})[one.name] = leakage(
                        here, blind, most, lower_is_more_alike=one.metric == "attribute_error"
                    )
        return found

    def compare(self, answers: Arrays, truth: Truth) -> Arrays:
        """The answer, and what is read off the originals, float64 (n targets, 16) both."""
        real = [read_soft_biometrics(originals) for _, originals in truth.originals()]
        return {"answer": answers["answer"], "real": np.concatenate(real)}

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """``age`` as a share of its variance among the targets; of the others the share that agrees."""
        weights, people = bootstrap.items(truth.targets), bootstrap.people
        answer, black, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("answer", "floor", "ceiling"))
        out = {
            one.name: compared(
                one.metric, one.here, one.floor, one.ceiling, weights, people, leaks=one.leaks,
                hits=one.metric == "agreement",
            )
            for one in _judged(answer, inputs, truth)
        }  # fmt: skip
        found = [mean(_found(one), weights, people) for one in (answer, black, ceiling)]
        return out | {"detection": measurement("detection_rate", *found)}


class _Judged(NamedTuple):
    """One of what is read: errors or hits, (n,), of the answer, of the best that ignores the target, of the ceiling."""

    name: str
    metric: str
    here: Array
    floor: Array
    ceiling: Array
    leaks: bool = True


def _judged(answer: Array, inputs: Mapping[str, Arrays], truth: Truth) -> Iterator[_Judged]:
    real = np.asarray(inputs["ceiling"]["real"])
    black, ceiling = (np.asarray(inputs[name]["answer"]) for name in ("floor", "ceiling"))
    answers = (answer, ceiling, black, answer[truth.of_another])
    age = COLUMNS["age"]
    years = real[:, age].mean(1)
    errors = [_squared(values, years) for values in (*(one[:, age].mean(1) for one in answers), years.mean())]
    floor = min(errors[2:], key=lambda one: float(one.mean()))
    yield _Judged("age", "attribute_error", errors[0], floor, errors[1])
    for name in CLASSES:
        right = real[:, COLUMNS[name]].argmax(1)
        commonest = np.bincount(right).argmax()
        hits = [(values == right).astype(float) for values in
                (*(one[:, COLUMNS[name]].argmax(1) for one in answers), commonest)]  # fmt: skip
        floor = max(hits[2:], key=lambda one: float(one.mean()))
        yield _Judged(name, "agreement", hits[0], floor, hits[1], float(hits[-1].mean()) <= ALIKE)


def _squared(answer: Array, years: Array) -> Array:
    """As shares of the variance, (n,)."""
    error: Array = (answer - years) ** 2 / max(float(years.var()), 1e-12)
    return error


def _found(answer: Array) -> Array:
    found: Array = (answer[:, COLUMNS["detection"]].max(1) >= FIRES).astype(float)
    return found


SCORER = SoftBiometrics
