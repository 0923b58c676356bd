"""What is measured of cloaks beside likeness and recognition."""

from __future__ import annotations

from ppfr_bench.metrics.base import MetricInfo

__all__ = ["INFOS"]

_SOURCE = "ppfr-bench, docs/metrics.md"

INFOS: tuple[MetricInfo, ...] = (
    MetricInfo(
        "still_detected", 1, (0.0, 1.0), "higher_is_better", "share", "dlib's frontal detector, King 2009",
        "Share of the released images on which a detector still finds a face",
    ),
    MetricInfo(
        "impersonation", 1, (0.0, 1.0), "lower_is_better", "share", _SOURCE,
        "Share of the pairs of different people that are accepted at a threshold where 1 clear pair in 100 is",
    ),
    MetricInfo(
        "erasure_success", 1, (0.0, None), "higher_is_better", "share", "Erasure success rate of ErasableMask, 2024",
        "True accept rate of erased images, as a share of that of clear ones, at FAR 1% on clear pairs",
    ),
)  # fmt: skip
