"""How unlike a rebuilt face is, as what training minimises: what reconstructions are judged by, with gradients."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, ByteArray, to_float
from ppfr_bench.learning.resizing import enlarge, resize
from ppfr_bench.metrics import LEAKING, load_image_metric
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
        large, wanted = (resize(images.clamp(0, 1), SIZE) for images in (answer, clear))
        total = total + perception * perceptual_distance(large, wanted).mean()
    return total


def measured(answers: torch.Tensor, clear: ByteArray) -> dict[str, float]:
    """The mean of each measure that leakage is told by, of answers as they would be given.

    Args:
        answers: float32 (n, 3, s, s), clamped to [0, 1].
        clear: uint8 (n, 3, 112, 112).
    """
    given, wanted = to_float(enlarge(answers)), to_float(clear)
    return {name: float(load_image_metric(name).values(given, wanted).mean()) for name in LEAKING}


def structure_loss(answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """``unlikeness`` without LPIPS: what a reconstruction that is judged by SSIM alone minimises."""
    return unlikeness(answer, clear, perception=0)


def perceptual_distance(answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """LPIPS with gradients: float32 (n, 3, 112, 112) in [0, 1] twice -> (n,).

    Raises:
        Unavailable: the weights of LPIPS are not to be had on this machine.
    """
    network = _perception.on(device.current())
    with device.autocast():
        distance: torch.Tensor = network(answer * 2 - 1, clear * 2 - 1)
    return distance.float().flatten()


def _ssim(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The mean over windows without weights. Source: Wang and others, IEEE TIP 2004."""
    a, b, squares, others, product = _window_means(torch.stack([one, other, one.square(), other.square(), one * other]))
    variances, together = squares - a.square() + others - b.square(), product - a * b
    found = (2 * a * b + _DARK) * (2 * together + _FLAT) / ((a.square() + b.square() + _DARK) * (variances + _FLAT))
    return cast(torch.Tensor, found.mean())


def _window_means(images: torch.Tensor) -> torch.Tensor:
    """Means over all windows, (..., h, w) -> (..., h - 6, w - 6): as differences of running sums, which is fastest."""
    for axis in (-1, -2):
        sums = images.cumsum(axis)
        ends = sums.narrow(axis, _WINDOW - 1, sums.shape[axis] - _WINDOW + 1)
        starts = sums.narrow(axis, 0, sums.shape[axis] - _WINDOW)
        first, others = ends.narrow(axis, 0, 1), ends.narrow(axis, 1, ends.shape[axis] - 1)
        images = torch.cat([first, others - starts], dim=axis)
    return images / _WINDOW**2
