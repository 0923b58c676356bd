"""What a scorer is: it alone sees the originals, and turns an attack's answers into measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import SIZE, ByteArray, FaceDataset, IntArray, Recognizer
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import metric_info
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.bootstrap import Bootstrap

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Truth:
    """What the scorers know and no attacker: the originals of the targets, and who is on which image."""

    dataset: FaceDataset
    batch: int  # Images in memory at a time.

    @cached_property
    def people(self) -> IntArray:
        """Everybody who is measured."""
        return np.unique(self.dataset.evaluation.identities)

    @property
    def targets(self) -> IntArray:
        """Who is on each target, (n,)."""
        return self.dataset.evaluation.identities[self.dataset.targets]

    @property
    def gallery(self) -> IntArray:
        """Who is on each photo of the gallery, (m,)."""
        return self.dataset.evaluation.identities[self.dataset.gallery]

    @cached_property
    def of_another(self) -> IntArray:
        """For each target a target of another person, (n,), a quarter, a half or three quarters of the way round.

        What an attack answers to its release ignores the target, and knows all that the attack has learnt of faces.
        Where all targets are of one person, each stands for itself.
        """
        who, n = self.targets, len(self.targets)
        found = np.arange(n)
        for i in range(n):
            start = i + max(1, (i % 3 + 1) * n // 4)
            around = (start + np.arange(n)) % n
            others = around[who[around] != who[i]]
            found[i] = others[0] if len(others) else i
        return found

    def originals(self) -> Iterator[tuple[slice, ByteArray]]:
        """The clear targets, uint8 (k, 3, 112, 112) with their rows, a batch at a time."""
        targets = self.dataset.targets
        for start in range(0, len(targets), self.batch):
            part = slice(start, min(start + self.batch, len(targets)))
            yield part, self.dataset.evaluation.load(targets[part])

    def bootstrap(self, replicates: int, seed: int) -> Bootstrap:
        """Draws of the people who are measured."""
        return Bootstrap(replicates, seed, self.people)


class Scorer(ABC):
    """Scores the answers of the attacks whose card names it in ``measures``.

    Attributes:
        version: raised by hand whenever a value may change.
        title: what its numbers tell, in a few words.
        sets: the privacy that the largest leakage of its attacks sets, such as ``appearance``; empty if none.
        metrics: names of the metrics that it computes, as ``ppfr-bench list metrics`` has them.
        shown: the measurement that pages show of attacks by which nothing leaks; empty for all.
        ignores_target: whether the answers are marks to beat, given without a look at the target.
        shows_faces: whether an answer is images, of which the first faces are shown as samples (synthetic ones only).
        from_embedding: whether answers are made of an embedding alone: what leaks by them where nothing is protected is
            the price of utility.

    Args:
        extra: names of metrics that a suite asks for beside the scorer's own; those that it does not know it leaves.
    """

    version: ClassVar[int]
    title: ClassVar[str]
    sets: ClassVar[str] = ""
    metrics: tuple[str, ...] = ()
    shown: ClassVar[str] = ""
    ignores_target: ClassVar[bool] = False
    shows_faces: ClassVar[bool] = False
    from_embedding: ClassVar[bool] = False

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        self.extra = extra

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """What is wrong with the type, shape or values of an answer; empty if nothing.

        Default: expects finite floats (targets, gallery).
        """
        return wrong_array(answer, (targets, gallery), images=False)

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """The stages whose arrays ``score`` is given, by name.

        Default: ``answer`` of the attack, and ``ceiling``, of the same attack where nothing is protected.
        """
        assert cell.attack is not None, "scorers score attacks"
        return {
            "answer": graph.attack(cell.defense, cell.attack, cell.recognizer),
            "ceiling": graph.attack(graph.ceiling, cell.attack, cell.recognizer),
        }

    def compare(self, answers: Arrays, truth: Truth) -> Arrays:
        """What of an attack's answers is kept for ``score``, computed once an attack; (n targets, ...) each.

        Only for a scorer whose ``inputs`` ask for ``graph.compared``. Default: the answers.

        Args:
            answers: ``answer``, and those by measure and by budget under the names of ``Answers.arrays``.
            truth: what they are held against.
        """
        return answers

    @abstractmethod
    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Measurements by name, from the arrays of ``inputs``."""

    def utility(
        self, inputs: Mapping[str, Arrays], recognizer: Recognizer | None, truth: Truth, bootstrap: Bootstrap
    ) -> tuple[dict[str, Measurement], dict[str, Any]]:
        """What is kept, of a scorer that a track names in ``utility_scorer``: ``retention`` among it; and a log.

        Args:
            recognizer: of the cell; None where utility is measured by no recognizer.

        Raises:
            UserError: it scores attacks alone.
        """
        raise UserError(f"the scorer '{self.title}' scores attacks, no utility", "Name another in `utility_scorer`.")

    def by_group(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
        """For the log: numbers of groups of people, as ``groups.compared_in_groups`` gives them. Default: none."""
        return {}

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """What leaks, by name, after a part of the attack's budget, by the size of that part. Default: unknown."""
        return {}

    def flags(self, metrics: Mapping[str, Measurement], *, learned: bool, same_key: bool) -> list[str]:
        """What is odd about the measurements of an attack that ``learned``, under the ``same_key`` as the targets."""
        return []

    @property
    def spec(self) -> dict[str, Any]:
        """What of the scorer determines a number: its version and those of its metrics."""
        return {"version": self.version, "metrics": {name: metric_info(name).version for name in self.metrics}}


def sizes(arrays: Arrays, name: str = "") -> dict[int, str]:
    """The arrays that hold an attack's answers after a part of its budget: their names by the size of the part.

    Args:
        name: of what was kept of the answers; empty for the answers themselves.
    """
    start = f"{name}_at_" if name else "at_"
    found = {int(key.removeprefix(start)): key for key in arrays if key.startswith(start)}
    return dict(sorted(found.items()))


def wrong_array(answer: npt.NDArray[Any], shape: Sequence[int], *, images: bool) -> str:
    """What is wrong with an answer that should be uint8 images, or else finite floats, of a shape; empty if nothing."""
    if answer.shape != tuple(shape) or images != (answer.dtype == np.uint8):
        return f"expected {'uint8' if images else 'float'} {tuple(shape)}, got {answer.dtype} {answer.shape}"
    if not images and not np.isfinite(answer).all():
        return "answered NaN or infinite values"
    return ""


def wrong_images(answer: npt.NDArray[Any], targets: int) -> str:
    """As ``wrong_array``, of rebuilt faces."""
    return wrong_array(answer, (targets, 3, SIZE, SIZE), images=True)
