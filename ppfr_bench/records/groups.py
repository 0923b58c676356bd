"""Numbers of groups of people or photos, as a record notes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ppfr_bench.cards import Config
from ppfr_bench.records.estimate import Estimate

GAP = "gap"
_FIRST = ("light", "intermediate", "dark")  # Groups that have an order of their own.


class Groups(Config):
    """Values of each group, with their 95% intervals.

    Attributes:
        people: how many are in each group, by its name.
        numbers: by measurement and group, value and interval; under ``gap``, the largest value less the smallest.
    """

    people: dict[str, int] = Field(max_length=20)
    numbers: dict[str, dict[str, tuple[float, float, float]]] = Field(max_length=50)

    @classmethod
    def of_log(cls, log: Mapping[str, Any]) -> dict[str, Groups]:
        """Those that a record notes, by what the groups differ in; none where they are not possible."""
        try:
            return _NOTED.validate_python(log.get("groups", {}))
        except ValidationError:
            return {}

    def estimates(self, measurement: str, key: str = "") -> dict[str, Estimate]:
        """By group, and ``gap``; empty of a measurement that has none."""
        found = self.numbers.get(measurement, {})
        return {
            group: Estimate(value, (low, high), self.people.get(group, 0), key=key)
            for group, (value, low, high) in found.items()
        }


_NOTED: TypeAdapter[dict[str, Groups]] = TypeAdapter(Annotated[dict[str, Groups], Field(max_length=5)])


def in_order(names: Iterable[str]) -> list[str]:
    """Names of groups as pages list them: skin tones from light to dark, others by the alphabet."""
    return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
