"""Whether a clear region of an image gets out of a defense."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import ByteArray

TOUCHED = 2  # Levels; JPEG or rounding moves an image that was let through by no more.
_TEXTURED = 8.0  # Levels, the luma's standard deviation over a window: plain skin looks alike anyway.
_WINDOW = 5  # Pixels.
_LUMA = (0.299, 0.587, 0.114)  # The weights are those of ITU-R BT.601.
_LEAST_TEXTURE = 0.02  # Share of the pixels; an image with less has nothing to recognize.
_CHANCE = 0.15  # Share of the textured pixels, on top of the card's.


def leaked_images(
    originals: ByteArray, released: ByteArray, names: Sequence[str], allowed_share: float = 0.0
) -> list[str]:
    """Names of the images of which a clear region got out.

    A pixel is untouched where no channel moved by more than 2 levels, as part of a 5x5 window that is untouched
    altogether. Only textured pixels count (5x5 luma deviation above 8 levels). An image is leaked if the untouched
    share of them exceeds ``allowed_share`` + 0.15; an image with next to no texture cannot be told and is passed over.
    Where a share is allowed, the untouched share of all pixels must exceed as much too: a face may have nearly all of
    its texture outside of what is masked.

    Args:
        originals, released: uint8 (n, 3, h, w) in 0..255.
        names: n labels.
        allowed_share: what the defense's card says it leaves by design, 0 to 1.
    """
    if originals.shape != released.shape or len(names) != len(originals):
        raise ValueError(f"expected alike shapes and names, got {originals.shape}, {released.shape}, {len(names)}")
    if not len(originals):
        return []
    distance = np.maximum(originals, released) - np.minimum(originals, released)
    untouched = np.asarray(distance.max(axis=1) <= TOUCHED)
    margin = _WINDOW // 2
    windows = _windows(untouched, np.logical_and)  # Windows untouched altogether, by their upper left corner.
    untouched = _windows(np.pad(windows, ((0, 0), (2 * margin,) * 2, (2 * margin,) * 2)), np.logical_or)
    untouched = untouched[:, margin:-margin, margin:-margin]  # The pixels of such windows, where texture is measured.
    luma = np.einsum("nchw,c->nhw", originals, np.array(_LUMA, np.float32), dtype=np.float32)
    mean, square = _windows(luma, np.add) / _WINDOW**2, _windows(luma**2, np.add) / _WINDOW**2
    textured = square - mean**2 > _TEXTURED**2
    count = textured.sum(axis=(1, 2))
    share = (textured & untouched).sum(axis=(1, 2)) / np.maximum(count, 1)
    leaked = (share > allowed_share + _CHANCE) & (count >= _LEAST_TEXTURE * textured[0].size)
    if allowed_share:
        leaked &= untouched.mean(axis=(1, 2)) > allowed_share + _CHANCE
    return [name for name, is_leaked in zip(names, leaked, strict=True) if is_leaked]


def _windows(values: npt.NDArray[Any], combine: np.ufunc) -> npt.NDArray[Any]:
    """(n, h, w) -> (n, h - 4, w - 4): all of every 5x5 window under ``combine``, rows first."""
    rows, columns = (values.shape[axis] - _WINDOW + 1 for axis in (1, 2))
    along = reduce(combine, (values[:, i : i + rows] for i in range(_WINDOW)))
    return np.asarray(reduce(combine, (along[:, :, i : i + columns] for i in range(_WINDOW))))
