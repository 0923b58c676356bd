"""Structural similarity."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ppfr_bench.metrics.base import FloatArray, Metric, MetricInfo, check_images, in_chunks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ssim"]


class Ssim(Metric):
    """Structural similarity, the mean over channels and windows that lie wholly inside the image.

    Gaussian window 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03, never downsampled: the setting of Wang et al. and
    of skimage with ``gaussian_weights=True, use_sample_covariance=False``. Published figures differ by
    window and channel handling; compare only with figures of the same setting.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="ssim",
        version=1,
        range=(-1.0, 1.0),
        direction="higher_is_better",
        unit="",
        source="Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004; package piq",
        description="Structural similarity of an image to its original, Gaussian window 11x11",
    )

    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], at least 11 px a side, twice -> (n,) in [-1, 1].

        Raises UserError on any other shape, type or range.
        """
        from piq.ssim import ssim

        from ppfr_bench import device

        images, references = check_images("SSIM", device.to(images), device.to(references), smallest_side=11)
        compute: Any = partial(ssim, data_range=1.0, reduction="none", downsample=False)
        return in_chunks(compute, images, references)


METRIC = Ssim
