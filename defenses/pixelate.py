"""Pixelation: the mean colour of each square block."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Config, Defense, DefenseCard


class PixelateConfig(Config):
    """``block``: side of a block in pixels; blocks at the right and lower border may be smaller."""

    block: int = Field(14, ge=2, le=112)


class Pixelate(Defense):
    """Linear and deterministic: an aware attacker knows exactly which means it is given."""

    version = 1
    card = DefenseCard(
        title="Pixelation",
        plain="Replaces each square block of the photo by its mean colour.",
        family="classical",
        reference="McPherson, Shokri and Shmatikov, Defeating Image Obfuscation with Deep Learning, 2016",
        licence="MIT",
    )
    Config = PixelateConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Block means, repeated over their blocks."""
        block, (height, width) = self.config.block, images.shape[-2:]
        means = functional.avg_pool2d(images, block, ceil_mode=True, count_include_pad=False)
        return means.repeat_interleave(block, 2).repeat_interleave(block, 3)[:, :, :height, :width].clamp(0, 1)


DEFENSE = Pixelate
