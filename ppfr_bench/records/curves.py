"""The scores of a recognizer on what is released, kept small: two histograms, and the trade-off between its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from ppfr_bench.cards import Config

BINS = 40
_DIGITS = 5


class Curves(Config):
    """Genuine and impostor scores of one recognizer, larger is more alike.

    Attributes:
        low, high: of the scores that are counted.
        genuine, impostor: how many lie in each of the bins of equal width between them.
        impostor_pairs: of which the curve is made: those of the protocol, or all pairs of different people.
        det: (FMR, FNMR), from the most impostors accepted to the fewest.
    """

    low: float
    high: float
    genuine: tuple[int, ...] = Field(min_length=BINS, max_length=BINS)
    impostor: tuple[int, ...] = Field(min_length=BINS, max_length=BINS)
    impostor_pairs: int = Field(ge=0)
    det: tuple[tuple[float, float], ...] = Field(max_length=40)

    @model_validator(mode="after")
    def _is_possible(self) -> Curves:
        rates = [rate for point in self.det for rate in point]
        if not self.low < self.high or min((*self.genuine, *self.impostor)) < 0 or not all(0 <= x <= 1 for x in rates):
            raise ValueError("expected low below high, counts of 0 or more, and rates in [0, 1]")
        return self

    @classmethod
    def of_scores(
        cls, genuine: npt.NDArray[np.float64], impostors: npt.NDArray[np.float64], det: list[tuple[float, float]]
    ) -> Curves:
        """Of scores, (n,) and (m,), and their trade-off."""
        both = np.concatenate([genuine, impostors])
        low, high = (_rounded(float(end)) for end in (both.min(), both.max()))
        high = high if high > low else low + 1
        counts = (np.histogram(np.clip(one, low, high), BINS, (low, high))[0].tolist() for one in (genuine, impostors))
        points = tuple((_rounded(fmr), _rounded(fnmr)) for fmr, fnmr in det)
        mine, others = map(tuple, counts)
        return cls(low=low, high=high, genuine=mine, impostor=others, impostor_pairs=len(impostors), det=points)

    @classmethod
    def of_log(cls, log: Mapping[str, Any]) -> Curves | None:
        """Those that a record notes; None where it notes none, or none that are possible."""
        try:
            return cls.model_validate(log["scores"]) if "scores" in log else None
        except ValidationError:
            return None


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
