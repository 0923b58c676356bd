"""Fourier amplitude: each image keeps its phases, and all images get the same amplitudes."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard

_FLOOR = 0.05  # It is added to every amplitude; rounding to 8 bits alone makes 0.1.


class FourierAmplitudeConfig(Config):
    """``exponent``: amplitudes fall as 1 / frequency^exponent; ``contrast``: standard deviation of each channel."""

    exponent: float = Field(1.0, ge=0, le=3)
    contrast: float = Field(0.2, gt=0, le=0.5)


class FourierAmplitude(Defense):
    """Deterministic; what it takes is light, colour and contrast, and the phases it leaves draw the face."""

    version = 1
    card = DefenseCard(
        title="Fourier amplitude",
        plain="Gives all photos the same strength of coarse and fine patterns and keeps where the patterns lie. "
        "Light and colour are lost, but the outlines of the face stay.",
        family="frequency",
        reference="Oppenheim and Lim, The Importance of Phase in Signals, Proceedings of the IEEE 1981",
        licence="MIT",
        deviations=(
            "Amplitudes fall as one over the frequency, the mean law of photographs, instead of being all one.",
            "Amplitudes below the rounding of 8-bit images are faded out, as their phases are noise.",
            "The paper studies what phases hold and claims no privacy.",
        ),
    )
    Config = FourierAmplitudeConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """0.5 + the image of the given phases and the fixed amplitudes, clipped."""
        c, (height, width), exact = self.config, images.shape[-2:], device.double(images)
        centred = exact - exact.mean((2, 3), keepdim=True)
        spectra = torch.fft.rfft2(centred)
        phases = spectra / (spectra.abs() + _FLOOR)
        amplitudes = _amplitudes.on(exact.device, height, width, c.exponent, c.contrast)
        out: torch.Tensor = torch.fft.irfft2(phases * amplitudes, s=(height, width))
        return (0.5 + out).clamp(0, 1).float().to(images.device)


@device.per_device
def _amplitudes(height: int, width: int, exponent: float, contrast: float) -> torch.Tensor:
    """(h, w // 2 + 1): nothing at frequency 0, and scaled so that the image's deviation is the contrast."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None] * height
    columns = torch.fft.fftfreq(width, dtype=torch.float64)[None] * width
    frequencies = (rows**2 + columns**2).sqrt()
    amplitudes: torch.Tensor = frequencies.clamp_min(1) ** -exponent
    amplitudes[0, 0] = 0
    deviation = (amplitudes**2).sum().sqrt() / (height * width)
    return amplitudes[:, : width // 2 + 1] * (contrast / float(deviation.clamp_min(1e-12)))


DEFENSE = FourierAmplitude
