"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ppfr_bench.metrics.base import FloatArray, Metric, MetricInfo, check_images

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CAP", "Psnr"]

_ROUNDING_NOISE = (1 / 255) ** 2 / 12  # Rounding to 8 bits has this mean squared error.
CAP = -10 * math.log10(_ROUNDING_NOISE)  # 58.92 dB


class Psnr(Metric):
    """-10 log10 of the mean squared error over all channels and pixels, in dB, images in [0, 1].

    Capped at 58.92 dB, the error of rounding to 8 bits ((1/255)^2 / 12): identical images, whose ratio
    is infinite, score the cap, and so does everything nearer than a released 8-bit image can be told
    apart.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="psnr",
        version=1,
        range=(0.0, CAP),
        direction="higher_is_better",
        unit="dB",
        source="Definition; capped at the noise of 8-bit rounding, 58.92 dB",
        description="Peak signal-to-noise ratio of an image against its original",
    )

    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], twice -> (n,) dB; UserError on any other shape, type or range."""
        from ppfr_bench import device

        images, references = check_images("PSNR", device.to(images), device.to(references), smallest_side=1)
        differences = device.double(images) - device.double(references)
        errors = differences.square().mean(dim=(1, 2, 3)).cpu().numpy()
        return np.asarray(-10 * np.log10(np.maximum(errors, _ROUNDING_NOISE)), dtype=np.float64)


METRIC = Psnr
