"""What an attack regains against what it spends: leakage after parts of its budget, and whether it is still rising."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ppfr_bench.cards import Config

RISING = 0.02  # The last doubling of the budget that adds more than so much leakage has not settled.
_DIGITS = 5


class BudgetCurve(Config):
    """Leakage of one attack by the size of its budget.

    Attributes:
        unit: what a size counts: ``steps`` of training, the attacker's ``images``, or ``queries`` a target.
        sizes: from the smallest to the whole budget.
        leakage: at each size, in [0, 1], by measure; None where it is unknown.
    """

    unit: Literal["steps", "images", "queries"]
    sizes: tuple[int, ...] = Field(min_length=2)
    leakage: dict[str, tuple[float | None, ...]]

    @model_validator(mode="after")
    def _is_possible(self) -> BudgetCurve:
        if any(len(values) != len(self.sizes) for values in self.leakage.values()):
            raise ValueError("expected one leakage a size")
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 0:
            raise ValueError("expected sizes of 0 or more that rise")
        known = [value for values in self.leakage.values() for value in values if value is not None]
        if not all(0 <= value <= 1 for value in known):
            raise ValueError("expected leakage in [0, 1]")
        return self

    @classmethod
    def of(
        cls, unit: Literal["steps", "images", "queries"], parts: Mapping[int, Mapping[str, float]], whole: int,
        of_whole: Mapping[str, float | None],
    ) -> BudgetCurve:  # fmt: skip
        """From what leaks after parts of the budget, by size and measure, and after the ``whole``.

        Where parts have the whole, too, it is by the same kind of answer as they are: a measure that is answered apart
        in the end would seem to rise.
        """
        of_whole = {**of_whole, **parts.get(whole, {})}
        smaller = {size: found for size, found in sorted(parts.items()) if size < whole}
        names = sorted({name for found in smaller.values() for name in found if name in of_whole})
        columns = {name: (*(_rounded(found.get(name)) for found in smaller.values()), _rounded(of_whole[name]))
                   for name in names}  # fmt: skip
        return cls(unit=unit, sizes=(*smaller, whole), leakage=columns)

    @classmethod
    def of_log(cls, log: Mapping[str, Any]) -> BudgetCurve | None:
        """The one that a record notes; None where it notes none, or none that is possible."""
        try:
            return cls.model_validate(log["budget"]) if "budget" in log else None
        except ValidationError:
            return None

    @property
    def measure(self) -> str:
        """The measure that leaks most after the whole budget; empty where none is known."""
        known = {name: values[-1] for name, values in self.leakage.items() if values[-1] is not None}
        return max(known, key=lambda name: known[name], default="")

    def of_measure(self, measure: str) -> BudgetCurve | None:
        """The curve of one measure alone; of ``self.measure`` where that one is unknown, None where both are."""
        known = self.leakage.get(measure, (None,))[-1] is not None
        name = measure if known else self.measure
        return self.model_copy(update={"leakage": {name: self.leakage[name]}}) if name else None

    @property
    def ends(self) -> tuple[float, ...]:
        """At each size, the leakage of ``measure``; 0 where it is unknown."""
        return tuple(value or 0.0 for value in self.leakage.get(self.measure, (None,) * len(self.sizes)))

    @property
    def shares(self) -> tuple[float, ...]:
        """Each size as a share of the whole budget."""
        return tuple(size / self.sizes[-1] for size in self.sizes)

    @property
    def last_doubling(self) -> float | None:
        """How much the last doubling of the budget has added to the measure that leaks most; None where it is unknown.

        It is the rise from the largest size of at most half the whole budget.
        """
        earlier = [i for i, size in enumerate(self.sizes) if 0 < size <= self.sizes[-1] / 2]
        return self.ends[-1] - self.ends[earlier[-1]] if earlier else None

    @property
    def still_rising(self) -> bool:
        """Whether the last doubling has added more than ``RISING``: more would leak to whoever spends more."""
        return (self.last_doubling or 0.0) > RISING


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.{_DIGITS}g}")
