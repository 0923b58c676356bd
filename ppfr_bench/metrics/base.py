"""What every metric is made of: its description, what a file of it ends in, and the guard on images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FloatArray", "ImageMetric", "Metric", "MetricInfo", "check_images", "in_chunks"]

FloatArray = npt.NDArray[np.float64]
TOLERANCE = 1e-6
_CHUNK = 32  # Images of 112 pixels a side: SSIM of 120 at once took one and a half times as long on a processor.


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


class Metric(ABC):
    """Compares images with their references, one by one. A file of the package ends in ``METRIC = <class>``."""

    info: ClassVar[MetricInfo]

    @abstractmethod
    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], twice -> (n,); UserError on any other shape, type or range."""

    @classmethod
    def wrong_info(cls, name: str) -> str:
        """What is wrong with ``info`` of a metric in the file of that name; empty if nothing."""
        found = getattr(cls, "info", None)
        if not isinstance(found, MetricInfo):
            return "expected `info = MetricInfo(...)`"
        return "" if found.name == name else f"expected info.name to be the file's name, got {found.name!r}"


ImageMetric = Metric  # Version 0.1 called it so.


def in_chunks(compute: Callable[[Tensor, Tensor], Tensor], images: Tensor, references: Tensor) -> FloatArray:
    """``compute`` of a few images and their references at a time -> (n,); the arrays of so few stay in the cache.

    Args:
        compute: (k, 3, h, w) twice, on the current device -> (k,); without gradients.
        images, references: as ``check_images`` returned them.
    """
    import torch

    if len(images) == 0:
        return np.empty(0)
    pairs = zip(images.split(_CHUNK), references.split(_CHUNK), strict=True)
    with torch.inference_mode():
        # A convolution of each channel by itself, which SSIM is made of, is twice as fast in this order.
        found = [compute(*(part.contiguous(memory_format=torch.channels_last) for part in pair)) for pair in pairs]
    return np.concatenate([values.cpu().numpy() for values in found]).astype(np.float64)


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
        if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails both comparisons.
            what = "NaN among them" if math.isnan(low) or math.isnan(high) else f"{low:.6g} to {high:.6g}"
            raise UserError(
                f"{metric}: {label} must lie in [0, 1], got {what}.",
                "Divide bytes by 255; map images in [-1, 1] with (x + 1) / 2; clamp what a network returns.",
            )
    return images.clamp(0, 1), references.clamp(0, 1)
