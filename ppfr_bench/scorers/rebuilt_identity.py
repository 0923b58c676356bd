"""Rebuilt identity: whether a face that was rebuilt is accepted as the person it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.learning.heads import unit_rows
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Component
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, wrong_images
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, compared

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

FMR = 1e-2  # Judges accept at most so many impostors among clear photos of the people who are measured.


class RebuiltIdentity(Scorer):
    """Type I: accepted as the photo that the template was made from. Type II: as another photo of the person.

    The judges of a face are the recognizers of the suite, except the surrogate and the one that made the template; each
    accepts 1 in 100 clear photos of others. A measure is the mean over judges. The floor is what is accepted of faces
    that were rebuilt from other people's templates; the ceiling, what the same attack regains of plain templates.
    """

    version = 1
    title = "verification of rebuilt faces"
    sets = "irreversibility"
    shows_faces = True
    metrics = ("type_1", "type_2", "leakage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects uint8 (targets, 3, 112, 112)."""
        return wrong_images(answer, targets)

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """Embeddings, by every judge, of what was rebuilt, of what was rebuilt undefended, and of clear photos."""
        assert cell.attack is not None and cell.recognizer is not None, "attacks on templates need a recognizer"
        found = {}
        for at, judge in enumerate(judges(graph, cell.recognizer)):
            found[f"clear {at}"] = graph.embed(judge, "evaluation")
            for name, defense in (("answer", cell.defense), ("ceiling", graph.ceiling)):
                answered = graph.attack(defense, cell.attack, cell.recognizer)
                spec = {"recognizer": judge.spec}
                found[f"{name} {at}"] = graph.stage("template.judged", spec, {"answer": answered})
        return found

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Both types."""
        here, there = (_by_judges(name, inputs) for name in ("answer", "ceiling"))
        answers, ceilings = ([accepted(*one, truth) for one in judged] for judged in (here, there))
        return between(_mean(answers), _mean(ceilings), truth, bootstrap)


def judges(graph: Graph, recognizer: Component) -> list[Component]:
    """The recognizers that neither attack nor system has; where there are none, those that no attack trains on."""
    unseen = [one for one in graph.recognizers if one.name != graph.setting.surrogate]
    return [one for one in unseen if one.name != recognizer.name] or unseen or list(graph.recognizers)


def accepted(rebuilt: Array, clear: Array, truth: Truth) -> dict[str, Array]:
    """What a judge accepts, (n,) each, by the type; and of rebuilt faces of other targets.

    Args:
        rebuilt: (n, d), of what was rebuilt of each target.
        clear: (images, d), of the evaluation images.
    """
    clear, rebuilt = (unit_rows(np.asarray(rows, dtype=np.float64)) for rows in (clear, rebuilt))
    who, gallery = truth.targets, truth.gallery
    photos, others = clear[truth.dataset.targets], clear[truth.dataset.gallery]
    different = who[:, None] != gallery[None, :]
    threshold = np.quantile((photos @ others.T)[different], 1 - FMR)
    people, first = np.unique(gallery, return_index=True)
    second = others[first[np.searchsorted(people, who)]]
    found = {}
    for name, references in (("type_1", photos), ("type_2", second)):
        for end, rows in (("", rebuilt), (" floor", rebuilt[truth.of_another])):
            found[name + end] = ((rows * references).sum(axis=1) > threshold).astype(float)
    return found


Judged = list[tuple[Array, Array]]  # Of each judge, rebuilt and clear embeddings.


def _by_judges(name: str, inputs: Mapping[str, Arrays]) -> Judged:
    count = sum(key.startswith("clear ") for key in inputs)
    return [
        (np.asarray(inputs[f"{name} {at}"]["embeddings"]), np.asarray(inputs[f"clear {at}"]["embeddings"]))
        for at in range(count)
    ]


def _mean(found: list[dict[str, Array]]) -> dict[str, Array]:
    """Over judges."""
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def between(
    here: Mapping[str, Array], there: Mapping[str, Array], truth: Truth, bootstrap: Bootstrap, prefix: str = ""
) -> dict[str, Measurement]:
    """What is accepted, between what is of other targets and what ``there`` is.

    Args:
        prefix: of the metrics' names.
    """
    weights, people = bootstrap.items(truth.targets), bootstrap.people
    return {
        prefix + name: compared(
            prefix + name, here[name], here[f"{name} floor"], there[name], weights, people, hits=True
        )
        for name in ("type_1", "type_2")
    }  # fmt: skip


SCORER = RebuiltIdentity
