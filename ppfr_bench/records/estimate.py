"""A number with its interval, and what a cell has measured under one name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from ppfr_bench.cards import Real, Whole

Interval = tuple[Real, Real]
Part = Literal["value", "floor", "ceiling", "leakage"]

# A leaderboard holds tens of thousands of these: a dataclass is as strict as Config, at a fifth of its memory.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, config=STRICT)
class Estimate:
    """One number with its 95% interval and n.

    Attributes:
        value: the number, or None with a reason; never NaN, never a silent 0.
        interval: (low, high); None where it is unknown.
        n: how many things were measured (pairs, targets or images).
        reason: why there is no value; beside a value, a reservation under which it holds.
        draws: the bootstrap values over identities. The same draw of identities stands at the same place in every
            record of a data set, so that two defenses compare pair by pair.
        key: of the record that it comes from, where a table has taken it from one.
    """

    value: Real | None
    interval: Interval | None = None
    n: Annotated[Whole, Field(ge=0, lt=1 << 53)] = 0
    reason: str = ""
    draws: tuple[Real, ...] = ()
    key: str = ""

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Estimate:
        if self.value is None and not self.reason:
            raise ValueError("a missing value needs a reason")
        if self.interval is not None and not (self.value is not None and self.interval[0] <= self.interval[1]):
            raise ValueError("expected an interval (low, high) around a value")
        return self


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Measurement:
    """What a cell has measured under one name.

    Attributes:
        metric: what the number means, as ``ppfr-bench list metrics`` names it.
        version: of that metric.
        value: the measured number.
        floor: the same of an answer that ignores the target; None where there is no such answer.
        ceiling: the same where nothing is protected.
        leakage: where ``value`` lies between floor and ceiling, as a share; None where that is not asked.
    """

    metric: str
    version: Whole
    direction: Literal["higher_is_better", "lower_is_better"]
    unit: str = ""
    value: Estimate
    floor: Estimate | None = None
    ceiling: Estimate | None = None
    leakage: Estimate | None = None

    @property
    def lower_is_more_alike(self) -> bool:
        """Of an attack's answer: whether a smaller number is a better answer."""
        return self.direction == "lower_is_better"

    def parts(self) -> Iterator[tuple[Part, Estimate]]:
        """Those that there are, the value first."""
        yield "value", self.value
        for part in ("floor", "ceiling", "leakage"):
            if (found := getattr(self, part)) is not None:
                yield part, found


def column(name: str, part: Part) -> str:
    """What a part of a measurement is called in tidy tables: ``lpips``, ``lpips_blind``, ``leakage_lpips``."""
    return {"value": name, "floor": f"{name}_blind", "ceiling": f"{name}_ceiling", "leakage": f"leakage_{name}"}[part]
