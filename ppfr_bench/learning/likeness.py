"""How unlike a rebuilt face is, as what training minimises: what reconstructions are judged by, with gradients."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.learning.resizing import resize
from ppfr_bench.metrics.lpips import Lpips

STRUCTURE, PERCEPTION = 0.5, 0.5  # Weights of SSIM and of LPIPS beside L1.
_WINDOW = 7
_DARK, _FLAT = 0.01**2, 0.03**2


@device.per_device
def _perception() -> nn.Module:
    network: nn.Module = Lpips().network
    return network


def unlikeness(answer: torch.Tensor, clear: torch.Tensor, perception: float = PERCEPTION) -> torch.Tensor:
    """L1 + 0.5 (1 - SSIM, at full and half size) + ``perception`` LPIPS: float32 (n, 3, s, s) twice -> a scalar.

    SSIM and L1 see the answer as it is, LPIPS at 112 pixels, clamped to [0, 1].

    Raises:
        Unavailable: the weights of LPIPS are not to be had on this machine.
    """
    structure = (_ssim(answer, clear) + _ssim(*(functional.avg_pool2d(x, 2) for x in (answer, clear)))) / 2
    total = functional.l1_loss(answer, clear) + STRUCTURE * (1 - structure)
    if perception:
        network = _perception.on(device.current())
        large, wanted = (resize(images.clamp(0, 1), SIZE) * 2 - 1 for images in (answer, clear))
        with device.autocast():
            distance = network(large, wanted)
        total = total + perception * distance.float().mean()
    return total


def _ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The mean over windows without weights. Source: Wang and others, IEEE TIP 2004."""

    def mean(images: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(images, _WINDOW, 1)

    a, b = mean(one), mean(other)
    variances = mean(one.square()) - a.square() + mean(other.square()) - b.square()
    together = mean(one * other) - a * b
    found = (2 * a * b + _DARK) * (2 * together + _FLAT) / ((a.square() + b.square() + _DARK) * (variances + _FLAT))
    return found.mean()
