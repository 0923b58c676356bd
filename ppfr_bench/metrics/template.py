"""Template protection: what decisions keep, and what is regained of a template."""

from __future__ import annotations

from typing import Literal

from ppfr_bench.metrics.base import MetricInfo

__all__ = ["INFOS"]

_BENCH, _MAI = "ppfr-bench, docs/metrics.md", "Mai et al., IEEE TPAMI 2019"
_ISO = "ISO/IEC 19795-1"
_UNLINKABLE = "Gomez-Barrero, Galbally, Rathgeb and Busch, IEEE TIFS 2018"


def _info(
    name: str, source: str, description: str, higher: bool = True, unit: str = "share", most: float | None = 1.0
) -> MetricInfo:
    direction: Literal["higher_is_better", "lower_is_better"] = "higher_is_better" if higher else "lower_is_better"
    return MetricInfo(name, 1, (0.0, most), direction, unit, source, description)


INFOS: tuple[MetricInfo, ...] = (
    _info("same_decisions", _BENCH, "Share of pairs that are decided as by cosine of quantised plain templates"),
    _info("fmr", _ISO, "Share of impostor pairs accepted at a threshold chosen on the other folds", higher=False),
    _info("fnmr", _ISO, "Share of genuine pairs rejected at a threshold chosen on the other folds", higher=False),
    _info("bytes_up", _BENCH, "Bytes that a client sends to search a gallery of 1,000", False, "bytes", None),
    _info("bytes_down", _BENCH, "Bytes that a client receives of a search of 1,000", False, "bytes", None),
    _info("type_1", _MAI, "Share of targets whose rebuilt face is accepted as the photo that its template is of"),
    _info("type_2", _MAI, "Share of targets whose rebuilt face is accepted as another photo of the person"),
    _info("template_type_1", _MAI, "Share of targets whose rebuilt template is accepted as the photo that it is of"),
    _info("template_type_2", _MAI, "Share of targets whose rebuilt template is accepted as another photo"),
    _info("linked_d_sys", _UNLINKABLE, "D_sys of scores between two systems: how surely an attacker links people"),
)  # fmt: skip
