"""Random erasing: one random rectangle of each image replaced by noise."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators

_TRIES = 100


class ErasingConfig(Config):
    """Share of the image's area and ratio of height to width, each drawn uniformly between its two bounds."""

    least_area: float = Field(0.02, gt=0, le=1)
    most_area: float = Field(0.4, gt=0, le=1)
    least_ratio: float = Field(0.3, gt=0)
    most_ratio: float = Field(1 / 0.3, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> ErasingConfig:
        if self.least_area > self.most_area or self.least_ratio > self.most_ratio:
            raise ValueError("expected each lower bound at or below its upper bound")
        return self


class RandomErasing(Defense):
    """An augmentation, not a protection: most of the face stays clear, and several releases show all of it."""

    version = 1
    card = DefenseCard(
        title="Random erasing",
        plain="Covers one randomly placed rectangle of the photo with noise. Most of the face stays visible.",
        family="classical",
        reference="Zhong, Zheng, Kang, Li and Yang, Random Erasing Data Augmentation, AAAI 2020",
        code_url="https://github.com/zhunzhong07/Random-Erasing",
        licence="Apache-2.0",
        randomness="per_call",
        clear_share=0.98,
        deviations=(
            "Every image is erased, where the paper erases each with probability one half: the rest would be clear.",
            "The paper made it to train classifiers and claims no privacy.",
        ),
    )
    Config = ErasingConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images, each with a rectangle of uniform noise."""
        out, (height, width) = images.clone(), images.shape[-2:]
        for i, one in enumerate(per_image_generators(generator, len(images))):
            rows, columns = self._rectangle(height, width, one)
            out[i, :, rows, columns] = device.draw(torch.rand, one, out[i, :, rows, columns].shape, like=out)
        return out

    def _rectangle(self, height: int, width: int, generator: torch.Generator) -> tuple[slice, slice]:
        """The first that fits of a hundred draws, else the last cut to the image."""
        c, draws = self.config, torch.rand(_TRIES, 4, generator=generator, dtype=torch.float64).tolist()
        for area, ratio, _, _ in draws:
            pixels = (c.least_area + area * (c.most_area - c.least_area)) * height * width
            shape = c.least_ratio + ratio * (c.most_ratio - c.least_ratio)
            rows, columns = max(1, round(math.sqrt(pixels * shape))), max(1, round(math.sqrt(pixels / shape)))
            if rows < height and columns < width:
                break
        rows, columns = min(rows, height), min(columns, width)
        top, left = int(draws[0][2] * (height - rows + 1)), int(draws[0][3] * (width - columns + 1))
        return slice(top, top + rows), slice(left, left + columns)


DEFENSE = RandomErasing
