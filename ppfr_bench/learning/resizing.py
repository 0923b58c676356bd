"""Images between their size in the data set and an attack's working size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, ByteArray, Faces, to_bytes, to_float

_BATCH = 256


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize square images: antialiased bilinear where they shrink, bicubic where they grow.

    Args:
        images: float32 (n, c, h, h), [0, 1].
        size: side in pixels of the result.

    Returns:
        float32 (n, c, size, size) on the same device, [0, 1] (bicubic values outside are clamped).
    """
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return functional.interpolate(images, size=(size, size), mode="bicubic").clamp(0, 1)


def shrink(images: ByteArray, size: int) -> torch.Tensor:
    """Resize stored images a batch at a time, so that a memory-mapped file is never in memory as floats.

    Args:
        images: uint8 (n, 3, h, h), memory-mapped or not.
        size: side in pixels of the result.

    Returns:
        uint8 (n, 3, size, size), on the CPU.
    """
    parts = [resize(to_float(images[i : i + _BATCH]), size) for i in range(0, len(images), _BATCH)]
    return torch.from_numpy(np.concatenate([to_bytes(part) for part in parts]))


def shrink_faces(faces: Faces, size: int) -> torch.Tensor:
    """The clear images of ``faces``: uint8 (n, 3, size, size), on the CPU; shared by all who ask, so not to be written.

    Every attack of a process asks for those of the same people.
    """
    return _shrunk(faces, size, str(device.current()))


@lru_cache(maxsize=2)
def _shrunk(faces: Faces, size: int, computed_on: str) -> torch.Tensor:
    """As ``shrink_faces``; devices round differently, so what one has computed is not another's."""
    return torch.cat([shrink(batch, size) for batch in faces.batches(_BATCH)])


def enlarge(images: torch.Tensor) -> ByteArray:
    """Bring an answer to the size of the data set: float (n, 3, s, s), clamped to [0, 1] -> uint8 (n, 3, 112, 112)."""
    return np.concatenate([to_bytes(resize(part, SIZE)) for part in images.float().clamp(0, 1).split(_BATCH)])
