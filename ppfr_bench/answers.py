"""What attacks answer: one array, or one for each measure and for parts of the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Answers:
    """What an attack answers, where it has more than one answer.

    Attributes:
        main: the answer as such: what other attacks start from, what pages show, and what is scored by every measure
            that ``by_measure`` does not name.
        by_measure: other answers, by the name of the metric that they are scored by in its place. Which is the better
            one was decided on the attacker's own people, who are held out.
        at: what it answers after a part of its budget, by the size of that part; none of them is better informed. After
            the whole budget, too, where measures are answered apart: a curve is of one kind of answer.
        budget: what the sizes in ``at`` count: ``steps`` of training, the attacker's ``images``, ``queries`` a target.
        whole: the size of the whole budget; 0 where the log says it, as ``steps`` or ``training_images``.
    """

    main: npt.NDArray[Any]
    by_measure: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    at: Mapping[int, npt.NDArray[Any]] = field(default_factory=dict)
    budget: Literal["steps", "images", "queries"] = "steps"
    whole: int = 0

    @classmethod
    def of(cls, answered: Any) -> Answers:
        """What ``Attack.run`` has returned: an array is the one answer."""
        return answered if isinstance(answered, cls) else cls(np.asarray(answered))

    @classmethod
    def of_arrays(
        cls, arrays: Arrays, budget: Literal["steps", "images", "queries"] = "steps", whole: int = 0
    ) -> Answers:
        """The other way round: answers from what ``arrays`` made of them."""
        by_measure = {key.removeprefix("by_"): arrays[key] for key in arrays if key.startswith("by_")}
        at = {int(key.removeprefix("at_")): arrays[key] for key in arrays if key.startswith("at_")}
        return cls(arrays["answer"], by_measure, at, budget, whole)

    @property
    def different(self) -> list[npt.NDArray[Any]]:
        """The main answer, and those by measure that are not equal to it or to one another."""
        found: list[npt.NDArray[Any]] = []
        for answer in (self.main, *self.by_measure.values()):
            if not any(np.array_equal(answer, one) for one in found):
                found.append(np.asarray(answer))
        return found

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of them by name: ``answer``, ``by_ssim``, ``at_75``."""
        measures = {f"by_{name}": answer for name, answer in self.by_measure.items()}
        return {"answer": self.main, **measures, **{f"at_{size}": answer for size, answer in self.at.items()}}
