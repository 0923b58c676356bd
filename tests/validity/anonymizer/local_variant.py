"""Training-free variants of the reference defense, to find out what each stage keeps and what it hides.

Run by ``ppfr-bench run tests/validity/anonymizer/variants.toml --plugin tests/validity/anonymizer/local_variant.py
--results tests/validity/records``; not a defense that anyone should use.
"""

from __future__ import annotations

from typing import Literal

import torch
from ppfr_bench.defenses import _background, _filters
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, Faces, Randomness, per_image_generators


class LocalVariantConfig(Config):
    """Amplitudes in grey levels of [0, 1], lengths in pixels of a 112-pixel face; 0 turns a stage off.

    ``soft``: blur before all else; ``mean``, ``spread``: sigmas of the local mean that is taken away and of the local
    deviation that is divided by; ``levels``: what the contrast is rounded to, from -2 to 2 deviations;
    ``oval``: half height of the ellipse that is kept; ``carrier``: what stands in for the low frequencies.
    """

    soft: float = Field(0.0, ge=0, le=10)
    mean: float = Field(4.0, gt=0, le=30)
    spread: float = Field(8.0, ge=0, le=60)
    gain: float = Field(0.16, gt=0, le=2)
    levels: int = Field(0, ge=0, le=64)
    oval: float = Field(0.0, ge=0, le=112)
    carrier: Literal["grey", "mean", "decoy"] = "grey"
    field: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.0, ge=0, le=1)
    warp: float = Field(0.0, ge=0, le=10)
    smooth: float = Field(10.0, gt=0, le=50)  # correlation length of field and warp


class LocalVariant(Defense):
    """Local contrast on a carrier, stage by stage."""

    version = 1
    card = DefenseCard(
        title="Variant of local features", family="local features", licence="MIT", randomness="per_call",
        reference="after Liu et al., Local Features Meet Stochastic Anonymization, arXiv 2412.08276, 2024",
        training_data="the defender's faces, where the carrier is one of them",
    )  # fmt: skip
    Config = LocalVariantConfig
    faces: torch.Tensor | None = None

    @property
    def randomness(self) -> Randomness:
        """As the settings say."""
        c = self.config
        return "per_call" if c.field or c.noise or c.warp or c.carrier == "decoy" else "deterministic"

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Keep faces for the carrier."""
        self.faces = _background.one_each(faces, 1000, 2, generator)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Contrast of the luma, rounded, inside an ellipse, on a carrier, under fresh noise."""
        c, (n, _, height, width) = self.config, images.shape
        keys = per_image_generators(generator, n)
        gray = _filters.luma(images)
        if c.soft:
            gray = _filters.gaussian(gray, c.soft)
        if c.spread:
            contrast = _filters.local_contrast(gray, c.mean, c.spread)
        else:
            contrast = (gray - _filters.gaussian(gray, c.mean)) / 0.08
        if c.levels:
            step = 4 / c.levels
            contrast = ((contrast / step).round() * step).clamp(-2, 2)
        if c.warp:
            moves = torch.stack([_filters.smooth_field(key, 2, height, width, c.smooth) for key in keys])
            contrast = _filters.warp(contrast, c.warp * moves)
        out = self._carrier(images, keys) + c.gain * contrast * self._oval(height, width)
        if c.field:
            out = out + c.field * torch.stack([_filters.smooth_field(k, 1, height, width, c.smooth) for k in keys])
        if c.noise:
            out = out + c.noise * torch.stack([torch.randn(1, height, width, generator=key) for key in keys])
        return out.clamp(0, 1).expand(n, 3, height, width).contiguous()

    def _oval(self, height: int, width: int) -> torch.Tensor:
        """(h, w): 1 inside the ellipse, 0 outside, two pixels between; its width is four fifths of its height."""
        if not self.config.oval:
            return torch.ones(height, width)
        half = self.config.oval * height / 112
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        at = (((rows - 0.56 * height) / half) ** 2 + ((columns - 0.5 * (width - 1)) / (0.8 * half)) ** 2).sqrt()
        return ((1 - at) * half / 2 + 0.5).clamp(0, 1)

    def _carrier(self, images: torch.Tensor, keys: list[torch.Generator]) -> torch.Tensor:
        if self.config.carrier == "grey":
            return torch.full((1, 1, 1, 1), 0.5)
        faces = _background.like(_background.fitted(self.faces), images)
        if self.config.carrier == "mean":
            return _filters.gaussian(faces.mean(0, keepdim=True), self.config.mean)
        chosen = torch.stack([faces[int(torch.randint(len(faces), (1,), generator=key))] for key in keys])
        return _filters.gaussian(chosen, self.config.mean)


DEFENSE = LocalVariant
