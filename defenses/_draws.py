"""Draws that several defenses share: one generator an image, so that no image's randomness depends on its batch.

All are made on the CPU, then moved to the images: the same bits on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from ppfr_bench.api import Randomness, per_image_generators

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


def laplace(generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    """Laplace noise of scale 1 (variance 2), as the difference of two exponentials: never infinite, both signs."""
    first, second = torch.empty(2, *shape).exponential_(generator=generator)
    noise: torch.Tensor = first - second
    return noise
