"""Fourier constant phase: one fixed key added to the phase of every frequency."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard

_KEY = 20240613
_LOW, _HIGH = -1.0, 2.0  # The range holds a mean of 0.5 and five deviations of 0.3.


class FourierConstantPhase(Defense):
    """A convolution of the whole image with one fixed kernel that loses nothing: pairs from the oracle reveal it."""

    version = 1
    card = DefenseCard(
        title="Constant Fourier phase",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_session_key",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Amplitudes and mean kept, phases shifted by those of white noise, all rescaled by the same constants."""
        height, width = images.shape[-2:]
        noise = torch.fft.rfft2(torch.randn(height, width, generator=torch.Generator().manual_seed(_KEY)))
        phases = torch.polar(torch.ones_like(noise.real), noise.angle())  # A real image has such a symmetric spectrum.
        phases[0, 0] = 1
        shifted: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * phases, s=(height, width))
        return ((shifted - _LOW) / (_HIGH - _LOW)).clamp(0, 1)


DEFENSE = FourierConstantPhase
