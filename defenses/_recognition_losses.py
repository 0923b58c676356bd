"""What defenses that learn from a recognizer have in common: images as another one may get them, and confusion."""

from __future__ import annotations

import torch
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.learning.resizing import resize


def confusion(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How often row i of one is nearer to other rows of the other, softly: cross-entropy at a temperature of 1/16."""
    scores, truth = 16 * left @ right.T, torch.arange(len(left), device=left.device)
    return (functional.cross_entropy(scores, truth) + functional.cross_entropy(scores.T, truth)) / 2


def as_seen(
    images: torch.Tensor, draw: torch.Generator, *, mirroring: bool = False, noise: float = 0.0
) -> torch.Tensor:
    """As another recognizer may get it: up to two pixels off, softened or not, lighter or darker.

    Args:
        mirroring: whether it may be mirrored, too.
        noise: standard deviation of what is added to each pixel.
    """
    mirrored = mirroring and bool(torch.randint(0, 2, (1,), generator=draw))
    dy, dx, soft = (int(torch.randint(0, n, (1,), generator=draw)) for n in (5, 5, 2))
    cut = functional.pad(images, (2, 2, 2, 2), mode="replicate")[:, :, dy : dy + SIZE, dx : dx + SIZE]
    cut = cut.flip(-1) if mirrored else cut
    if soft:
        cut = resize(resize(cut, SIZE * 3 // 4), SIZE)
    gain = 0.8 + 0.4 * device.draw(torch.rand, draw, 1, like=images)
    offset = 0.1 * device.draw(torch.randn, draw, 1, like=images)
    seen = 0.5 + gain * (cut - 0.5) + offset
    if noise:
        seen = seen + noise * device.draw(torch.randn, draw, *images.shape, like=images)
    return seen.clamp(0, 1)
