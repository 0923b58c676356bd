"""Images at an attack's working resolution, in memory as bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ppfr_bench.api import SIZE, Faces, to_bytes, to_float

Images = npt.NDArray[np.uint8]
_BATCH = 256


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """(n, c, h, w) -> (n, c, size, size): area means on the way down, bicubic on the way up, clamped to [0, 1]."""
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return functional.interpolate(images, size=(size, size), mode="bicubic").clamp(0, 1)


def shrink(images: Images, size: int) -> torch.Tensor:
    """uint8 (n, 3, h, w), memory-mapped or not -> uint8 tensor (n, 3, size, size), a batch at a time."""
    parts = [resize(to_float(images[i : i + _BATCH]), size) for i in range(0, len(images), _BATCH)]
    return torch.from_numpy(np.concatenate([to_bytes(part) for part in parts]))


def shrink_faces(faces: Faces, size: int) -> torch.Tensor:
    """The clear images of ``faces`` as a uint8 tensor (n, 3, size, size)."""
    return torch.cat([shrink(batch, size) for batch in faces.batches(_BATCH)])


def enlarge(images: torch.Tensor) -> Images:
    """float32 (n, 3, s, s) in [0, 1] -> uint8 (n, 3, 112, 112)."""
    return np.concatenate([to_bytes(resize(part, SIZE)) for part in images.float().clamp(0, 1).split(_BATCH)])


def held_out(identities: npt.NDArray[np.int64], share: float, generator: torch.Generator) -> npt.NDArray[np.bool_]:
    """True for the images of about ``share`` of the identities, at least one of them and never all."""
    people = np.unique(identities)
    order = torch.randperm(len(people), generator=generator).numpy()
    count = min(max(1, round(share * len(people))), len(people) - 1)
    return np.isin(identities, people[order[:count]])
