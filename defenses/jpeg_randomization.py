"""Random resizing and JPEG before the service looks: a defense by obscured gradients."""

from __future__ import annotations

import io
import math
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, DefenseCard
from ppfr_bench.robustness.api import Access, Given, HardenedClassifier, Hardening, RandomNetwork, WhiteBox
from ppfr_bench.robustness.smoothing import Noise

_AT_ONCE = 32  # Images that the service's network is given at once: of 128 each took one and a half times as long.


class JpegRandomizationConfig(Config):
    """Qualities of JPEG between ``lowest`` and ``highest``, and sides of ``smallest`` pixels and more; ``votes``."""

    lowest: int = Field(40, ge=1, le=100)
    highest: int = Field(80, ge=1, le=100)
    smallest: int = Field(96, ge=16, le=SIZE)
    votes: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> JpegRandomizationConfig:
        if self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest} lies above highest {self.highest}")
        return self


class _Randomized(RandomNetwork):
    """Each image is made smaller and larger again, and compressed; gradients pass as if JPEG changed nothing (BPDA)."""

    def __init__(self, inner: nn.Module, config: JpegRandomizationConfig) -> None:
        super().__init__()
        self.inner, self._config = inner, config

    def forward(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) -> logits (n, classes)."""
        config = self._config
        n = len(images)
        sides = torch.randint(config.smallest, SIZE + 1, (n,), generator=generator).tolist()
        qualities = torch.randint(config.lowest, config.highest + 1, (n,), generator=generator).tolist()
        small = [
            functional.interpolate(one[None], (s, s), mode="bilinear") for one, s in zip(images, sides, strict=True)
        ]
        scaled = torch.cat([functional.interpolate(one, (SIZE, SIZE), mode="bilinear") for one in small]).clamp(0, 1)
        with torch.no_grad():
            change = torch.stack([_compressed(one, q) for one, q in zip(scaled, qualities, strict=True)]) - scaled
        parts = (scaled + change).chunk(math.ceil(n / _AT_ONCE))
        return torch.cat([self.inner(part) for part in parts])


def _compressed(image: torch.Tensor, quality: int) -> torch.Tensor:
    """JPEG and back, float32 (3, h, w) in [0, 1]."""
    levels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    with Image.open(file) as opened:
        found = torch.from_numpy(np.array(opened, dtype=np.float32)) / 255
    return found.permute(2, 0, 1).to(image.device)


class JpegRandomization(Hardening):
    """The service's own network, behind a random side and a random quality. Nothing is certified."""

    version = 1
    card = DefenseCard(
        title="JPEG and random resizing",
        plain="Resizes and compresses every photo at random before the recognition service looks at it, so that "
        "prepared changes to the photo are partly destroyed.",
        family="model defense",
        reference="Guo et al., ICLR 2018; Xie et al., ICLR 2018; broken by Athalye et al., ICML 2018",
        licence="MIT",
        randomness="per_call",
        deviations=("Sizes are taken back to 112 pixels, which the service wants, and nothing is padded.",),
    )
    Config = JpegRandomizationConfig
    access: ClassVar[Access] = "white_box"

    def network(self, classes: int, white_box: WhiteBox | None) -> nn.Module:
        """The service's, behind random changes."""
        assert white_box is not None, "its access is that of the white box"
        return _Randomized(white_box.network, self.config)

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Nothing is learnt."""
        network = device.to(self.network(given.service.classes, given.white_box))
        return HardenedClassifier(network, given.service.classes, Noise("none"), SIZE, self.config.votes)


DEFENSE = JpegRandomization
