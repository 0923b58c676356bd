"""Draws that several defenses share: one generator an image, so that no image's randomness depends on its batch.

All are made on the CPU, then moved to the images: the same bits on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from ppfr_bench.api import Randomness, per_image_generators

FIELDS = 4  # A photo's coarse look is the brightness of so many fields a side,
LEVELS = 8  # each in so many levels.
Key = Literal["session", "image"]
Draw = Callable[[torch.Generator], torch.Tensor]


def per_image(generator: torch.Generator, images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """(n, ...): ``draw`` of an independent generator for each of n images, on their device."""
    return torch.stack([draw(one) for one in per_image_generators(generator, len(images))]).to(images.device)


def keyed(key: Key, secret: int, generator: torch.Generator, images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """(n, ...): one draw for all n images, from the session's secret, or a fresh one for each; on their device."""
    if key == "image":
        return per_image(generator, images, draw)
    shared = draw(torch.Generator().manual_seed(secret)).to(images.device)
    return shared.expand(len(images), *shared.shape)


def keyed_randomness(key: Key) -> Randomness:
    """What ``keyed`` promises."""
    return "per_session_key" if key == "session" else "per_call"


def photo_generators(secret: int, images: torch.Tensor) -> list[torch.Generator]:
    """A generator for each image, the same one whenever this photo is released under this secret.

    Its seed is a keyed hash (BLAKE2b, RFC 7693) of the photo's coarse look: the brightness of 4x4 fields in 8 levels.
    So two releases of one photo are the same, also after most slight changes such as another compression, and who lacks
    the secret cannot foretell the draw of any photo.

    Args:
        secret: at least 0, below 2**512.
        images: float32 (n, c, h, w) in [0, 1], h and w at least 4.
    """
    key = secret.to_bytes(64, "big")
    return [
        torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(look, digest_size=8, key=key).digest()) >> 1)
        for look in map(bytes, _coarse_looks(images).tolist())
    ]


def _coarse_looks(images: torch.Tensor) -> torch.Tensor:
    """Images (n, c, h, w) in [0, 1] -> int64 (n, 16) in 0..7, in whole numbers: the same on every device."""
    sums = (images * 255).round().long().sum(1).cpu()  # The hash is made of bytes there.
    counts = torch.full(sums.shape[1:], images.shape[1])
    for axis in (-1, -2):
        to = torch.arange(sums.shape[axis]) * FIELDS // sums.shape[axis]
        sums, counts = (_summed(tensor, axis, to) for tensor in (sums, counts))
    return (sums * LEVELS // (256 * counts)).flatten(1)


def _summed(tensor: torch.Tensor, axis: int, to: torch.Tensor) -> torch.Tensor:
    """Sums along an axis of all that goes to each of the fields."""
    shape = list(tensor.shape)
    shape[axis] = FIELDS
    return torch.zeros(shape, dtype=tensor.dtype).index_add(axis, to, tensor)


def laplace(generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    """Laplace noise of scale 1 (variance 2), as the difference of two exponentials: never infinite, both signs."""
    first, second = torch.empty(2, *shape).exponential_(generator=generator)
    noise: torch.Tensor = first - second
    return noise
