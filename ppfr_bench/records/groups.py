"""Numbers of groups of people, as a record notes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from ppfr_bench.cards import Config
from ppfr_bench.records.estimate import Estimate

GAP = "gap"


class Groups(Config):
    """Values of each group, with their 95% intervals.

    Attributes:
        people: how many are in each group, by its name.
        numbers: by measurement and group, value and interval; under ``gap``, the largest value less the smallest.
    """

    people: dict[str, int] = Field(max_length=20)
    numbers: dict[str, dict[str, tuple[float, float, float]]] = Field(max_length=50)

    @classmethod
    def of_log(cls, log: Mapping[str, Any]) -> Groups | None:
        """Those that a record notes; None where it notes none, or none that are possible."""
        try:
            return cls.model_validate(log["groups"]) if "groups" in log else None
        except ValidationError:
            return None

    def estimates(self, measurement: str, key: str = "") -> dict[str, Estimate]:
        """By group, and ``gap``; empty of a measurement that has none."""
        found = self.numbers.get(measurement, {})
        return {
            group: Estimate(value, (low, high), self.people.get(group, 0), key=key)
            for group, (value, low, high) in found.items()
        }
