"""Image filters that several defenses share; batched, in floating point, the same for every batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from ppfr_bench import device

LUMA = (0.299, 0.587, 0.114)  # The weights are those of ITU-R BT.601.


def luma(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) -> (n, 1, h, w): BT.601 luma."""
    red, green, blue = (images[:, i : i + 1] * weight for i, weight in enumerate(LUMA))
    return red + green + blue


@device.per_device
def _blur_matrix(size: int, sigma: float) -> torch.Tensor:
    """(size, size): row i holds the weights that output i gives to each input, borders reflected."""
    radius = min(math.ceil(3 * sigma), size - 1)
    taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    sources = torch.arange(size)[:, None] + taps.long()
    sources = sources.abs()
    sources = torch.where(sources > size - 1, 2 * (size - 1) - sources, sources)
    weights = (kernel / kernel.sum()).expand(size, -1)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, sources, weights).float()


def gaussian(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (n, c, h, w), sigma in pixels, cut at three sigma; borders are reflected.

    Two small matrix products an image: several times faster on a CPU than convolutions with one channel.
    """
    n, channels, height, width = images.shape
    planes = images.reshape(n * channels, height, width)
    down = _blur_matrix.on(images.device, height, sigma).expand(len(planes), -1, -1)
    along = _blur_matrix.on(images.device, width, sigma).T.expand(len(planes), -1, -1)
    return torch.bmm(torch.bmm(down, planes), along).reshape(images.shape)


def local_contrast(gray: torch.Tensor, mean_sigma: float, spread_sigma: float, floor: float = 0.02) -> torch.Tensor:
    """(gray - local mean) / local standard deviation, both Gaussian-weighted; sigmas in pixels, ``floor`` in [0, 1].

    The floor keeps flat regions flat: without it their noise would be blown up to full contrast.
    """
    residual = gray - gaussian(gray, mean_sigma)
    spread = gaussian(residual**2, spread_sigma).clamp_min(0).sqrt()
    return residual / (spread + floor)


def smooth_fields(
    keys: Sequence[torch.Generator], channels: int, height: int, width: int, sigma: float, where: torch.device
) -> torch.Tensor:
    """Random fields (n, channels, h, w), one a key, with a correlation length of ``sigma`` pixels and unit variance.

    Drawn on a coarse grid and enlarged, as their detail is below the grid anyway.
    """
    step = max(1.0, sigma)
    rows, columns = math.ceil(height / step) + 3, math.ceil(width / step) + 3
    fields = torch.stack([torch.randn(channels, rows, columns, generator=key) for key in keys]).to(where)
    if step > 1:
        fields = functional.interpolate(fields, size=(round(rows * step), round(columns * step)), mode="bicubic")
    return fields[:, :, :height, :width] / 0.87  # A bicubic field has this mean standard deviation between its nodes.


def warp(images: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Move pixels of (n, c, h, w) by (n, 2, h, w) pixels (x, y), bilinear, borders reflected."""
    height, width = images.shape[-2:]
    grid, scale = _places.on(images.device, height, width)
    moved = grid.expand(len(images), -1, -1, -1) + displacement.permute(0, 2, 3, 1) * scale
    return functional.grid_sample(images, moved, mode="bilinear", padding_mode="reflection", align_corners=True)


@device.per_device
def _places(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(h, w, 2): x and y of every pixel in [-1, 1]; and (2,): how far one pixel is there."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    step = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    return torch.stack([columns, rows], dim=-1), step
