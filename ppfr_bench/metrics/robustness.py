"""Names of what is measured of a hardened recognizer and of attacks on it."""

from __future__ import annotations

from typing import Literal

from ppfr_bench.metrics.base import MetricInfo

__all__ = ["INFOS"]

_SOURCE = "ppfr-bench, docs/metrics.md"
_COHEN = "Cohen et al., ICML 2019"


def _info(name: str, description: str, *, unit: str = "share", low_is_better: bool = False, most: float | None = 1,
          source: str = _SOURCE) -> MetricInfo:  # fmt: skip
    direction: Literal["higher_is_better", "lower_is_better"]
    direction = "lower_is_better" if low_is_better else "higher_is_better"
    return MetricInfo(name, 1, (0, most), direction, unit, source, description)


INFOS: tuple[MetricInfo, ...] = (
    _info("clean_accuracy", "Share of unchanged photos that are identified right"),
    _info("agreement", "Share of unchanged photos on which the hardened recognizer decides as its target does"),
    _info("service_queries", "Images that were sent to the target", unit="", low_is_better=True, most=None),
    _info("certified_accuracy", "Share of photos decided right wherever a change within the radius leads; an "
          "abstention is wrong", source=_COHEN),
    _info("certified_radius", "Mean radius within which the right decision is certified; 0 where it is not", unit="",
          most=None, source=_COHEN),
    _info("robust_accuracy", "Share of photos that are identified right as they are and after the attack"),
    _info("attack_success", "Share of photos of which an attack within its budget changes the decision as it wants"),
    _info("median_perturbation", "Median l2 norm of the smallest change by which the attack succeeded", unit="",
          most=None),
    _info("certificate_violations", "Photos that are surely decided wrong within their certified radius", unit="",
          low_is_better=True, most=None),
    _info("membership_auc", "How surely photos that were learnt from are told from others of the same people (AUC): "
          "0.5 or less is told nothing, 1 is told all; a lower number is more private", low_is_better=True,
          source="Yeom et al., CSF 2018; Carlini et al., S&P 2022"),
    _info("membership_advantage", "2 AUC - 1 of telling photos that were learnt from, at least 0: 0 is told nothing, "
          "1 is told all; a lower number is more private", source="Yeom et al., CSF 2018"),
)  # fmt: skip
