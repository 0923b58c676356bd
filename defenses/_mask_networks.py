"""The networks of ErasableMask: a protector and an eraser, both under a key that is a pattern of signs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.learning.unet import UNet

BLOCK = 4  # Pixels: a sign of the key covers so many a side, so that JPEG and scaling leave it readable.
BUDGET, MARK = 12 / 255, 1.5 / 255  # Of the whole change, and of the part of it that is the key's own pattern.
_SMOOTH = 9  # Pixels over which the mean is taken that the key is read without.


@device.per_device
def key_pattern(key: int | None) -> torch.Tensor:
    """The signs of a key, float32 (1, 3, 112, 112), -1 or 1 in blocks of four pixels; zeros where there is no key."""
    if key is None:
        return torch.zeros(1, 3, SIZE, SIZE)
    return signs(torch.Generator().manual_seed(key % 2**63))


def signs(draw: torch.Generator) -> torch.Tensor:
    """The pattern of a key that is drawn, float32 (1, 3, 112, 112), on the CPU."""
    grid = torch.randint(0, 2, (1, 3, SIZE // BLOCK, SIZE // BLOCK), generator=draw).float() * 2 - 1
    return functional.interpolate(grid, scale_factor=BLOCK, mode="nearest")


def evidence(images: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """How clearly the pattern of a key stands in images, (n, 1, 1, 1): about 0.8 under its key, 0 under another.

    Args:
        images: float32 (n, 3, 112, 112) in [0, 1].
        pattern: (1, 3, 112, 112) or (n, 3, 112, 112).
    """
    padded = functional.pad(images, (_SMOOTH // 2,) * 4, mode="reflect")
    fine = images - functional.avg_pool2d(padded, _SMOOTH, 1)
    return (fine * pattern).mean((1, 2, 3), keepdim=True) / MARK


def most(strength: float) -> float:
    """The largest change of a channel of a pixel, in [0, 1]: ``BUDGET`` at strength 1."""
    return strength * (BUDGET - MARK) + MARK


class Protector(nn.Module):
    """Adds a change that a network draws for the face and the key, and the key's pattern, faintly."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = UNet(6, width)

    def forward(self, images: torch.Tensor, pattern: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] and (1 or n, 3, 112, 112) -> the same shape, within ``most``.

        Args:
            strength: the drawn change is multiplied by it; it was trained, and the eraser with it, for 1.
        """
        shown = torch.cat([images, pattern.expand_as(images) / 2 + 0.5], dim=1)
        change = strength * (BUDGET - MARK) * torch.tanh(self.network(shown)) + MARK * pattern
        return (images + change).clamp(0, 1)


class Eraser(nn.Module):
    """The change that is to be added to a cloaked image to have the clear one back.

    It reads the pattern of the key in the image. Where it does not stand there the network was taught to change
    nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = UNet(10, width)

    def forward(self, images: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] and (1 or n, 3, 112, 112) -> the change, within twice ``BUDGET``."""
        pattern = pattern.expand_as(images)
        padded = functional.pad(images, (_SMOOTH // 2,) * 4, mode="reflect")
        fine = images - functional.avg_pool2d(padded, _SMOOTH, 1)
        seen = (fine * pattern / (4 * BUDGET) + 0.5).clamp(0, 1)
        sure = evidence(images, pattern).clamp(0, 1).expand(-1, 1, *images.shape[-2:])
        shown = torch.cat([images, pattern / 2 + 0.5, seen, sure], dim=1)
        return 2 * BUDGET * torch.tanh(self.network(shown))


class UnderKey(nn.Module):
    """An eraser under one key: images (n, 3, 112, 112) -> the change that it would add."""

    pattern: torch.Tensor

    def __init__(self, eraser: Eraser, key: int | None) -> None:
        super().__init__()
        self.eraser = eraser
        self.register_buffer("pattern", key_pattern(key).clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.eraser(images, self.pattern)
        return change
