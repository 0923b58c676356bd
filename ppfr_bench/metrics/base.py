"""What every metric is made of: its description, a score that may be missing, and the guard on images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FloatArray", "ImageMetric", "MetricInfo", "Score", "check_images"]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-6


@dataclass(frozen=True)
class MetricInfo:
    """What a number means.

    Attributes:
        name: as in records and tables, ``[a-z0-9_]+``.
        version: raised by hand whenever a value may change.
        range: smallest and largest possible value; None where there is no bound.
        direction: which way is a better image, a better recognizer or a more private defense, whichever the
            metric measures. Of an attack the same number is read the other way round.
        unit: "dB", "share", "distance" or "" for a pure number.
        source: paper, year and, where it is not our own code, the package.
        description: one sentence for a table heading.
    """

    name: str
    version: int
    range: tuple[float | None, float | None]
    direction: Literal["higher_is_better", "lower_is_better"]
    unit: str
    source: str
    description: str

    def contains(self, value: float) -> bool:
        """Whether a value is possible at all; NaN never is."""
        low, high = self.range
        return not math.isnan(value) and (low is None or value >= low) and (high is None or value <= high)


@dataclass(frozen=True)
class Score:
    """A measured value, or the reason why there is none; a missing value is never a number.

    Attributes:
        value: a finite number or None. NaN and infinities become None, with a reason.
        interval: 95% interval (low, high), or None where it is unknown.
        n: the number of things measured (pairs, targets or images).
        reason: why ``value`` is None; required then.

    Raises:
        ValueError: no value and no reason, or an interval upside down.
    """

    value: float | None
    interval: tuple[float, float] | None
    n: int
    reason: str = ""

    def __post_init__(self) -> None:
        def put(field: str, content: object) -> None:
            object.__setattr__(self, field, content)

        if self.value is None:
            if not self.reason:
                raise ValueError("a score without a value needs a reason")
        elif math.isfinite(self.value):
            put("value", float(self.value))
        else:
            put("reason", self.reason or f"the value came out as {float(self.value)}")
            put("value", None)
        if self.value is None or self.interval is None or not all(map(math.isfinite, self.interval)):
            put("interval", None)
            return
        low, high = map(float, self.interval)
        if low > high:
            raise ValueError(f"an interval runs from low to high, not from {low} to {high}")
        put("interval", (low, high))


class ImageMetric(Protocol):
    """Compares images with their references, one by one."""

    info: ClassVar[MetricInfo]

    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], twice -> (n,); UserError on any other shape, type or range."""
        ...


def check_images(metric: str, images: Tensor, references: Tensor, smallest_side: int) -> tuple[Tensor, Tensor]:
    """Both batches clamped to [0, 1], or a UserError that says what is wrong with them.

    Values up to 1e-6 outside the range are rounding; anything further is a wrong scale (0..255, -1..1), which
    would give a number that looks like a measurement.
    """
    for label, batch in (("images", images), ("references", references)):
        shape = tuple(batch.shape)
        if batch.ndim != 4 or shape[1] != 3 or str(batch.dtype) != "torch.float32":
            raise UserError(
                f"{metric}: {label} must be float32 of shape (n, 3, h, w), got {batch.dtype} {shape}.",
                "Turn stored bytes into such images with ppfr_bench.api.to_float.",
            )
        if min(shape[2:]) < smallest_side:
            raise UserError(
                f"{metric}: {label} need {smallest_side} pixels a side at least, got {shape[2]}x{shape[3]}.",
                "Resize both sides to the aligned 112x112.",
            )
    if images.shape != references.shape:
        raise UserError(
            f"{metric}: one reference an image: got {tuple(images.shape)} and {tuple(references.shape)}.",
            "Repeat the references where several images belong to one.",
        )
    for label, batch in (("images", images), ("references", references)):
        if batch.numel() == 0:
            continue
        low, high = float(batch.min()), float(batch.max())
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails both comparisons
            what = "NaN among them" if math.isnan(low) or math.isnan(high) else f"{low:.6g} to {high:.6g}"
            raise UserError(
                f"{metric}: {label} must lie in [0, 1], got {what}.",
                "Divide bytes by 255; map images in [-1, 1] with (x + 1) / 2; clamp what a network returns.",
            )
    return images.clamp(0, 1), references.clamp(0, 1)
