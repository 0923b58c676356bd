"""Median filter: each channel's median over a square window."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard, UserError, to_bytes, to_float


class MedianConfig(Config):
    """``size``: side of the window in pixels of a 112-pixel face, odd."""

    size: int = Field(9, ge=3, le=15)


class Median(Defense):
    """Deterministic: edges stay where a blur would smear them, so an aware attacker learns to draw the rest."""

    version = 1
    card = DefenseCard(
        title="Median filter",
        family="classical",
        reference="Hao, Güera, Reibman and Delp, Robustness Analysis of Face Obscuration, arXiv 1905.05243, 2019",
        licence="MIT",
        clear_share=0.2,  # an edge between flat areas passes a median whole; at most so much of a measured image was
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
        parts = [_median(to_bytes(part), size) for part in images.split(16)]
        return to_float(np.concatenate(parts))


def _median(images: ByteArray, size: int) -> ByteArray:
    """The median bit by bit: the largest level that more than half of the window reaches.

    The images lie along the last axis, so that every shifted window is a few long rows.
    """
    n, channels, height, width = images.shape
    radius, least = size // 2, size * size // 2 + 1
    planes = images.transpose(2, 3, 1, 0).reshape(height, width, channels * n)
    padded = np.pad(planes, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    median = np.zeros_like(planes)
    reached = np.empty(planes.shape, dtype=bool)
    count = np.empty_like(planes)  # at most 15 x 15
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        level = median | np.uint8(bit)
        count.fill(0)
        for row in range(size):
            for column in range(size):
                np.greater_equal(padded[row : row + height, column : column + width], level, out=reached)
                np.add(count, reached.view(np.uint8), out=count)
        np.copyto(median, level, where=count >= least)
    return np.ascontiguousarray(median.reshape(height, width, channels, n).transpose(3, 2, 0, 1))


DEFENSE = Median
