"""Reconstruction: how like the original a rebuilt face is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import to_float
from ppfr_bench.metrics import IMAGE_METRICS, LEAKING, load_image_metric, metric_info
from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, sizes, wrong_images
from ppfr_bench.scorers.bootstrap import Bootstrap, compared, share_and_draws
from ppfr_bench.scorers.groups import compared_in_groups

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage


class Reconstruction(Scorer):
    """Likeness to the originals, between the best answer that ignores the target and the attack without a defense.

    Answers that ignore the target are mean faces, sharp and softened, typical faces of the attacker's own, and what the
    attack itself answers where a black image is released, and to releases of other people: trained to rebuild sharp
    faces, it has learnt what faces look like, which LPIPS rewards and which is no leak.
    """

    version = 2
    title = "likeness of rebuilt faces"
    sets = "appearance"
    shows_faces = True

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        super().__init__(extra)
        self.image_metrics = tuple(dict.fromkeys((*IMAGE_METRICS, *extra)))
        self.metrics = (*self.image_metrics, "leakage")

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects uint8 (targets, 3, 112, 112)."""
        return wrong_images(answer, targets)

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """The likeness of the answer, of the ceiling and of every answer that ignores the target."""
        assert cell.attack is not None, "scorers score attacks"
        answers = super().inputs(graph, cell) | {"floor": graph.attack(graph.floor, cell.attack)}
        label = cell.attack.label
        found = {name: graph.compared(stage, cell.scorer, self, label=label) for name, stage in answers.items()}
        if not self.ignores_target:
            found["another"] = graph.compared(answers["answer"], cell.scorer, self, label=label, another=True)
        return found | {
            f"mean_face_{row}": graph.compared(graph.mean_faces(), cell.scorer, self, row=row)
            for row in range(graph.mean_face_count)
        }

    def compare(self, answers: Arrays, truth: Truth) -> Arrays:
        """Every image metric, (n targets,) each; an answer of one image stands for all targets.

        A metric that the attack answers apart is of that answer. The leaking ones are also of the answers that it had
        after a part of its budget, under names such as ``ssim_at_75``.
        """
        of = {name: answers.get(f"by_{name}", answers["answer"]) for name in self.image_metrics}
        for size, at in sizes(answers).items():
            of |= {f"{name}_at_{size}": answers[at] for name in LEAKING}
        found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in of}
        for part, originals in truth.originals():
            clear = to_float(originals)
            for name, answer in of.items():
                guess = answer[part] if len(answer) > 1 else np.repeat(answer, len(originals), axis=0)
                found[name].append(load_image_metric(name.partition("_at_")[0]).values(to_float(guess), clear))
        return {name: np.concatenate(values) for name, values in found.items()}

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Each image metric; what is regained of those that are bounded, and of those that a suite adds."""
        weights, out = bootstrap.items(truth.targets), {}
        for name in self.image_metrics:
            answer, floor, ceiling = _parts(name, inputs)
            out[name] = compared(name, answer, floor, ceiling, weights, bootstrap.people, leaks=self.leaks(name))
        return out

    def by_group(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
        """What is regained of the people of each group."""
        weights = bootstrap.items(truth.targets)

        def regained(name: str, rows: npt.NDArray[np.bool_]) -> tuple[float, npt.NDArray[Any]]:
            answer, floor, ceiling = (values[rows] for values in _parts(name, inputs))
            return share_and_draws(answer, floor, ceiling, weights[:, rows], _lower(name))

        numbers = {name: partial(regained, name) for name in self.image_metrics if self.leaks(name)}
        return compared_in_groups(truth, truth.dataset.targets, numbers)

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """What is regained of each leaking measure."""
        found: dict[int, dict[str, float]] = {}
        for name in LEAKING:
            _, floor, ceiling = (float(values.mean()) for values in _parts(name, inputs))
            for size, key in sizes(inputs["answer"], name).items():
                answer = float(np.asarray(inputs["answer"][key]).mean())
                found.setdefault(size, {})[name] = leakage(answer, floor, ceiling, _lower(name))
        return found

    def leaks(self, name: str) -> bool:
        """Whether the share that is regained is asked for of a metric."""
        return name in LEAKING or name not in IMAGE_METRICS

    def flags(self, metrics: Mapping[str, Measurement], *, learned: bool, same_key: bool) -> list[str]:
        """``attack_below_blind``: worse than ignoring the target on every measure, beyond its interval.

        It is not raised where the attack learned under another key than the targets': it is expected below its floor.
        """
        measured = [metrics[name] for name in LEAKING if name in metrics]
        worse = bool(measured) and all(map(_below_floor, measured))
        return ["attack_below_blind"] if learned and same_key and worse else []


def _parts(name: str, inputs: Mapping[str, Arrays]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """A metric of the answer, of the best answer that ignores the target, and of the ceiling, (n,) each."""
    ignorant = [
        np.asarray(arrays[name]) for part, arrays in inputs.items()
        if part.startswith("mean_face_") or part in ("floor", "another")
    ]  # fmt: skip
    sign = -1 if _lower(name) else 1
    floor = max(ignorant, key=lambda values: sign * values.mean())
    return np.asarray(inputs["answer"][name]), floor, np.asarray(inputs["ceiling"][name])


def _lower(name: str) -> bool:
    return metric_info(name).direction == "lower_is_better"


def _below_floor(found: Measurement) -> bool:
    if found.value.interval is None or found.floor is None or found.floor.value is None:
        return False
    low, high = found.value.interval
    return low > found.floor.value if found.lower_is_more_alike else high < found.floor.value


SCORER = Reconstruction
