"""Downsampling: the face at a low resolution, enlarged again."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Config, Defense, DefenseCard


class DownsampleConfig(Config):
    """``factor``: reduction of each side (7: 16x16 of a 112-pixel face); ``enlarge``: how it is brought back."""

    factor: int = Field(7, ge=2, le=56)
    enlarge: Literal["bilinear", "bicubic"] = "bicubic"


class Downsample(Defense):
    """Linear and deterministic: super-resolution trained on faces is the attack it invites."""

    version = 1
    card = DefenseCard(
        title="Downsampling",
        plain="Shrinks the photo to very few pixels and enlarges it again, so that fine detail is lost.",
        family="classical",
        reference="Dai, Wu, Saghafi, Konrad and Ishwar, Towards Privacy-Preserving Activity Recognition Using "
        "Extremely Low Temporal and Spatial Resolution Cameras, CVPR Workshops 2015",
        licence="MIT",
        deviations=(
            "The low resolution is simulated by block means of the aligned crop and enlarged to its size again.",
        ),
    )
    Config = DownsampleConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Block means, smaller blocks at the right and lower border, interpolated back to the size given."""
        small = functional.avg_pool2d(images, self.config.factor, ceil_mode=True, count_include_pad=False)
        return functional.interpolate(small, size=images.shape[-2:], mode=self.config.enlarge).clamp(0, 1)


DEFENSE = Downsample
