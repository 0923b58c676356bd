"""Fourier phase: each image keeps its amplitude spectrum, its phases are another's or random."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, Randomness

from . import _draws


class FourierPhaseConfig(Config):
    """``phase``: replaced by the key's, or shifted by it; ``key``: one a session, or one an image; its ``secret``."""

    phase: Literal["replaced", "shifted"] = "replaced"
    key: _draws.Key = "image"
    secret: int = Field(0, ge=0)


class FourierPhase(Defense):
    """Replaced, the phases are gone and only amplitudes are left to an attacker; shifted by one key, they come back.

    Shifting all images by one key is a circular convolution with white noise: pairs from the oracle reveal it.
    """

    version = 1
    card = DefenseCard(
        title="Fourier phase",
        plain="Keeps how strong coarse and fine patterns of the photo are, and replaces where they lie by random or"
        " secret values. The result looks like a texture.",
        family="frequency",
        reference="after Galerne, Gousseau and Morel, Random Phase Textures: Theory and Synthesis, IEEE TIP 2011",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "Phases are replaced by default; shifting them, the same in all three channels, is the paper's texture.",
            "No smoothing of the image's border, and values are clipped to [0, 1].",
        ),
    )
    Config = FourierPhaseConfig

    @property
    def randomness(self) -> Randomness:
        """``per_session_key`` if all images share one key."""
        return _draws.keyed_randomness(self.config.key)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Amplitudes as given, the mean kept, phases of white noise."""
        c, (height, width) = self.config, images.shape[-2:]

        def draw(one: torch.Generator) -> torch.Tensor:
            # A real image has such a symmetric spectrum.
            spectrum = torch.fft.rfft2(torch.randn(1, height, width, generator=one))
            phases = torch.polar(torch.ones_like(spectrum.real), spectrum.angle())
            phases[:, 0, 0] = 1
            return phases

        phases = _draws.keyed(c.key, c.secret, generator, images, draw)
        spectra = torch.fft.rfft2(images)
        kept = spectra.abs() if c.phase == "replaced" else spectra
        out: torch.Tensor = torch.fft.irfft2(kept * phases, s=(height, width))
        return out.clamp(0, 1)


DEFENSE = FourierPhase
