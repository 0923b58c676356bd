"""Quantised cosine: the integers that an encrypted protocol computes with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import FloatArray
from ppfr_bench.errors import UserError

IntArray = npt.NDArray[np.int64]
SCALE = 125  # Of the open code of Boddeti, BTAS 2018.


def quantise(embeddings: FloatArray, scale: int = SCALE) -> IntArray:
    """Unit rows (n, d) times ``scale``, rounded to nearest: int64 (n, d) in [-scale, scale]."""
    return np.rint(np.asarray(embeddings) * scale).astype(np.int64)


def quantised_cosine(left: FloatArray, right: FloatArray, scale: int = SCALE) -> FloatArray:
    """Cosine of quantised unit rows, (m, d) and (m, d) -> (m,), a multiple of 1 / scale^2."""
    products = (quantise(left, scale) * quantise(right, scale)).sum(axis=1)
    return np.asarray(products / scale**2)


def integer_thresholds(thresholds: npt.ArrayLike, scale: int = SCALE) -> IntArray:
    """The least integer score that a threshold in cosine accepts, (m,) -> int64 (m,)."""
    # A threshold is mostly a score itself: the division must not push it over the integer.
    return np.ceil(np.round(np.asarray(thresholds, dtype=np.float64) * scale**2, 6)).astype(np.int64)


def largest_score(dimension: int, scale: int = SCALE) -> int:
    """No inner product of two quantised unit rows is larger: (scale + sqrt(d) / 2)^2, by Cauchy and Schwarz."""
    return int(np.floor((scale + dimension**0.5 / 2) ** 2))


def check_modulus(dimension: int, scale: int, modulus: int) -> None:
    """Raises:
    UserError: differences of scores do not fit the plain modulus, and decisions would wrap around.
    """
    most = largest_score(dimension, scale)
    if 4 * most >= modulus:
        raise UserError(
            f"scores of templates of {dimension} numbers at scale {scale} reach {most}, and the plain modulus "
            f"{modulus} holds {modulus // 4 - 1} at most",
            f"Raise the modulus to 2^{(4 * most).bit_length()}, or lower the scale.",
        )
