"""Whether an attack does far better on people of its own than on the targets: then the defense treats them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records.estimate import Measurement

_FAR = 0.15  # In shares of what is there to regain: five standard errors of 24 held-out images.
_FAR_BY_NAME = 0.3  # Held-out people are named among themselves, which may be easier or harder than in the gallery.


def unlike_held_out(metrics: Mapping[str, Measurement], held_out: Mapping[str, Any]) -> str:
    """The measure by which an attack regains far more of people that it held out than of the targets; "" if none.

    It has learned from neither, so both are alike to it, unless the defense tells them apart.

    Args:
        metrics: of the targets.
        held_out: what the attack reports in its log of people held out, by the name of the metric.
    """
    for name, value in held_out.items():
        found = metrics.get(name)
        if found is None or found.leakage is None or found.floor is None or found.ceiling is None:
            continue
        floor, ceiling, regained = found.floor.value, found.ceiling.value, found.leakage.value
        if floor is None or ceiling is None or regained is None:
            continue
        share = leakage(float(value), floor, ceiling, found.lower_is_more_alike)
        if share - regained > (_FAR_BY_NAME if name.startswith("rank_") else _FAR):
            return name
    return ""
