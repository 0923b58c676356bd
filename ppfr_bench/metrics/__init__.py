"""Metrics: image similarity, verification, identification, unlinkability, leakage, and intervals over identities.

Importing this package is cheap: torch, piq and lpips are imported when an image metric is first used.
"""

from __future__ import annotations

from functools import cache

from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.metrics import attributes, identification, leakage, unlinkability, verification
from ppfr_bench.metrics.base import ImageMetric, MetricInfo, Score
from ppfr_bench.metrics.lpips import Lpips
from ppfr_bench.metrics.ms_ssim import MsSsim
from ppfr_bench.metrics.psnr import Psnr
from ppfr_bench.metrics.ssim import Ssim

__all__ = ["METRICS", "ImageMetric", "MetricInfo", "Score", "image_metric_names", "load_image_metric"]

_IMAGE_METRICS: dict[str, type[ImageMetric]] = {metric.info.name: metric for metric in (Lpips, Ssim, MsSsim, Psnr)}

METRICS: dict[str, MetricInfo] = {
    info.name: info
    for info in (
        *(metric.info for metric in _IMAGE_METRICS.values()),
        *verification.INFOS,
        *identification.INFOS,
        *unlinkability.INFOS,
        *attributes.INFOS,
        *leakage.INFOS,
    )
}


def image_metric_names() -> tuple[str, ...]:
    """Names of the metrics that compare an image with its original."""
    return tuple(_IMAGE_METRICS)


@cache
def load_image_metric(name: str) -> ImageMetric:
    """The image metric of that name, its weights loaded once a process.

    Raises:
        UserError: no image metric has that name.
        Unavailable: its weights are not to be had on this machine.
    """
    if name not in _IMAGE_METRICS:
        raise UserError(f"There is no image metric '{name}'.", did_you_mean(name, _IMAGE_METRICS))
    return _IMAGE_METRICS[name]()
