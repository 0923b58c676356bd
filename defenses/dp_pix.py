"""DP-Pix: pixelation with Laplace noise on the mean of every cell."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, Guarantee

from . import _draws


class DpPixConfig(Config):
    """``block``: side b of a cell in pixels; ``neighbours``: m, the pixels in which two images may differ."""

    epsilon: float = Field(0.5, gt=0)
    block: int = Field(16, ge=1, le=112)
    neighbours: int = Field(16, ge=1)


class DpPix(Defense):
    """Differentially private pixelation; an attacker sees cell means under noise whose scale he knows.

    Two images are neighbours if they differ in at most m pixels, each by at most 255 levels. A cell in which m_c pixels
    differ has its mean, over b^2 pixels, moved by at most 255 m_c / b^2. Over all cells that adds up to at most
    255 m / b^2, as the m_c add up to m: the L1 sensitivity of the means of one channel. Laplace noise of scale
    255 m / (b^2 epsilon) levels on each mean is therefore epsilon-differentially private in each channel, and
    3 epsilon for the three of them. A cell cut by the border has fewer pixels and noise in proportion, under which the
    shares epsilon m_c / m still add up to epsilon. The guarantee is for m pixels of one image and one release: it says
    nothing of a person, whose whole face differs, nor of several releases, whose epsilons add up.
    """

    version = 1
    card = DefenseCard(
        title="DP-Pix",
        plain="Replaces each square block of the photo by its mean colour plus random noise. The noise limits, "
        "provably, what the image tells about a few pixels.",
        family="differential privacy",
        reference="Fan, Image Pixelization with Differential Privacy, DBSec 2018",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "Epsilon is for any m pixels of one image and each colour channel, so 3 epsilon for a colour image; the "
            "paper treats grey ones.",
            "Cells cut by the border get noise in proportion to the pixels that they have left.",
            "Values are clipped to [0, 1] after the noise, which costs no privacy.",
        ),
    )
    Config = DpPixConfig

    @property
    def guarantee(self) -> Guarantee:
        """3 epsilon, one for each channel, for any m pixels."""
        return Guarantee(epsilon=3 * self.config.epsilon, per="pixels", pixels=self.config.neighbours)

    def scale(self, area: torch.Tensor | float) -> torch.Tensor | float:
        """Scale of the noise in levels of [0, 1] on the mean of ``area`` pixels: sensitivity / epsilon."""
        c: DpPixConfig = self.config
        return c.neighbours / (area * c.epsilon)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy cell means, repeated over their cells."""
        block, (_, channels, height, width) = self.config.block, images.shape
        means = functional.avg_pool2d(images, block, ceil_mode=True, count_include_pad=False)
        shape = (channels, *means.shape[-2:])
        noise = _draws.per_image(generator, images, lambda one: _draws.laplace(one, shape))
        area = _areas.on(images.device, height, width, block)
        noisy: torch.Tensor = (means + self.scale(area) * noise).clamp(0, 1)
        return noisy.repeat_interleave(block, 2).repeat_interleave(block, 3)[:, :, :height, :width].contiguous()


@device.per_device
def _areas(height: int, width: int, block: int) -> torch.Tensor:
    """Pixels of each cell, float32 (rows, columns)."""
    rows, columns = ((side - torch.arange(0, side, block)).clamp_max(block).float() for side in (height, width))
    return torch.outer(rows, columns)


DEFENSE = DpPix
