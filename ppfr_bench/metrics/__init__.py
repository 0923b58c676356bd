"""Metrics: image similarity, verification, identification, unlinkability, leakage, and intervals over identities.

Importing this package is cheap: torch, piq and lpips are imported when an image metric is first used.
"""

from __future__ import annotations

from functools import cache

from ppfr_bench import registry
from ppfr_bench.metrics import (
    attributes,
    cloaks,
    identification,
    leakage,
    robustness,
    soft_biometrics,
    template,
    unlinkability,
    verification,
)
from ppfr_bench.metrics.base import ImageMetric, Metric, MetricInfo

__all__ = [
    "IMAGE_METRICS", "LEAKING", "ImageMetric", "Metric", "MetricInfo", "is_better", "load_image_metric", "metric_info",
    "metric_names",
]  # fmt: skip

IMAGE_METRICS = (
    "lpips",
    "ssim",
    "ms_ssim",
    "psnr",
)  # Every reconstruction is compared by these; a suite may ask for others.
LEAKING = ("lpips", "ssim", "ms_ssim")  # Leakage is told by these: PSNR is unbounded, so a share of it means nothing.
_NUMBERS: dict[str, MetricInfo] = {
    info.name: info
    for module in (
        verification,
        identification,
        unlinkability,
        attributes,
        soft_biometrics,
        leakage,
        template,
        robustness,
        cloaks,
    )
    for info in module.INFOS
}


def metric_names() -> list[str]:
    """Names of all metrics, sorted."""
    return sorted({*_NUMBERS, *registry.names("metric")})


def metric_info(name: str) -> MetricInfo:
    """What a number of that name means.

    Raises:
        UserError: no metric has that name; the nearest is given.
    """
    if name in _NUMBERS:
        return _NUMBERS[name]
    found: MetricInfo = registry.load("metric", name).info
    return found


def is_better(name: str, value: float, than: float) -> bool:
    """Whether a value of the metric of that name is better than another."""
    return value < than if metric_info(name).direction == "lower_is_better" else value > than


@cache
def load_image_metric(name: str) -> Metric:
    """The metric of that name that compares an image with its original, its weights loaded once a process.

    Raises:
        UserError: no image metric has that name.
        Unavailable: its weights are not to be had on this machine.
    """
    loaded: Metric = registry.load("metric", name)()
    return loaded
