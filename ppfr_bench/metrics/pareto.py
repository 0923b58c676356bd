"""Which points no other point beats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import UserError

__all__ = ["pareto_front"]


def pareto_front(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Points that no other point equals or exceeds in both coordinates while exceeding it in one.

    Args:
        points: (n, 2), larger is better in both.

    Returns:
        bool (n,). Equal points are on the front together; a point with a NaN never is, and beats nothing.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 2:
        raise UserError(f"Points must be (n, 2), got {values.shape}.", "One row a defense: retention, privacy.")
    present = ~np.isnan(values).any(axis=1)
    first, second = values.T
    as_good = (first[present] >= first[:, None]) & (second[present] >= second[:, None])
    better = (first[present] > first[:, None]) | (second[present] > second[:, None])
    return np.asarray(present & ~np.any(as_good & better, axis=1), dtype=np.bool_)
