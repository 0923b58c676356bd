"""Eye mask: a black bar over the eyes of the aligned face."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from ppfr_bench.api import Config, Defense, DefenseCard


class EyeMaskConfig(Config):
    """The bar in shares of the image's height and width; the eyes of the template lie at 0.46 of the height."""

    top: float = Field(40 / 112, ge=0, le=1)
    bottom: float = Field(64 / 112, ge=0, le=1)
    left: float = Field(16 / 112, ge=0, le=1)
    right: float = Field(96 / 112, ge=0, le=1)

    @model_validator(mode="after")
    def _not_empty(self) -> EyeMaskConfig:
        if self.bottom - self.top < 0.1 or self.right - self.left < 0.1:
            raise ValueError("expected a bar of at least a tenth of the height and of the width")
        return self


class EyeMask(Defense):
    """Leaves four fifths of the face clear by design: what recognizers need not the eyes for, they still have."""

    version = 1
    card = DefenseCard(
        title="Eye mask",
        plain="Covers the eyes with a black bar. The rest of the face stays visible.",
        family="classical",
        reference="Todt, Hanisch and Strufe, Fantomas, PoPETs 2024 (eye mask of SEBA)",
        code_url="https://github.com/kit-ps/seba",
        licence="MIT",
        clear_share=0.8,
        deviations=(
            "The bar has a fixed place on the aligned face instead of following detected eyes, so no eye is ever "
            "missed for want of a detection.",
        ),
    )
    Config = EyeMaskConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images with the bar set to black."""
        c, (height, width) = self.config, images.shape[-2:]
        rows, columns = (
            (round(c.top * height), round(c.bottom * height)),
            (round(c.left * width), round(c.right * width)),
        )
        out = images.clone()
        out[:, :, slice(*rows), slice(*columns)] = 0
        return out


DEFENSE = EyeMask
