"""Median filter: each channel's median over a square window."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, UserError


class MedianConfig(Config):
    """``size``: side of the window in pixels of a 112-pixel face, odd."""

    size: int = Field(9, ge=3, le=15)


class Median(Defense):
    """Deterministic: edges stay where a blur would smear them, so an aware attacker learns to draw the rest."""

    version = 1
    card = DefenseCard(
        title="Median filter",
        plain="Replaces each pixel by the middle value of its neighbourhood, which removes fine detail and keeps "
        "edges sharp.",
        family="classical",
        reference="Hao, Güera, Reibman and Delp, Robustness Analysis of Face Obscuration, arXiv 1905.05243, 2019",
        licence="MIT",
        clear_share=0.2,  # An edge between flat areas passes a median whole; no measured image exceeded the share.
        deviations=(
            "The window is in pixels of the aligned 112x112 crop, not of the camera's image, and its default is ours.",
            "Images are rounded to 8 bits before the median is taken, as they come and as they are released.",
        ),
    )
    Config = MedianConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The median of each window, borders reflected.

        Raises:
            UserError: an even window, or one that reaches past the mirrored border.
        """
        size = self.config.size
        if size % 2 == 0 or size // 2 >= min(images.shape[-2:]):
            raise UserError(f"expected an odd size below twice the image, got {size}", "Set size to 5, 7 or 9.")
        levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
        return torch.cat([_median(part, size) for part in levels.split(16)]).float() / 255


def _median(images: torch.Tensor, size: int) -> torch.Tensor:
    """The median bit by bit: the largest level that more than half of the window reaches.

    The images lie along the last axis, so that every shifted window is a few long rows. NumPy does on the CPU what
    torch does elsewhere: the levels are the same, and torch's threads would wait for each other at each of 1,300 steps.
    """
    n, channels, height, width = images.shape
    radius, least = size // 2, size * size // 2 + 1
    rows, columns = (_mirrored.on(images.device, side, radius) for side in (height, width))
    planes = images.permute(2, 3, 1, 0).reshape(height, width, channels * n)[rows][:, columns]
    on_cpu = images.device.type == "cpu"
    library: Any = np if on_cpu else torch
    padded: Any = planes.numpy() if on_cpu else planes
    median = library.zeros_like(padded[:height, :width])
    count, reached = library.empty_like(median), median > 0
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        level = median | bit
        count[:] = 0  # It is at most 15 x 15.
        for row in range(size):
            for column in range(size):
                shifted = padded[row : row + height, column : column + width]
                library.greater_equal(shifted, level, out=reached)
                library.add(count, reached.view(library.uint8), out=count)
        median = library.where(count >= least, level, median)
    return torch.as_tensor(median).reshape(height, width, channels, n).permute(3, 2, 0, 1).contiguous()


@device.per_device
def _mirrored(side: int, radius: int) -> torch.Tensor:
    """int64 (side + 2 radius,): where each place of a row comes from whose ends are mirrored."""
    places = torch.arange(-radius, side + radius).abs()
    return torch.where(places > side - 1, 2 * (side - 1) - places, places)


DEFENSE = Median
