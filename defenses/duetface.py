"""DuetFace: the server gets the high frequencies, and from the client a map of where to look."""

from __future__ import annotations

import torch

from ppfr_bench.api import Config, DefenseCard

from . import _frequency as freq

CLIENT = (0, 1, 2, 3, 4, 5, 8, 9, 16, 24)  # frequencies that stay with the client
_CENTRE, _AXES = (0.53, 0.5), (0.42, 0.34)  # of the face on an aligned image: rows and columns, as shares of the side


class DuetFace(freq.Frequency):
    """Deterministic: 54 of 64 frequencies of each colour as they are, and one number a block in place of a lost one."""

    version = 1
    card = DefenseCard(
        title="DuetFace",
        family="frequency domain",
        output="representation",
        track="representation",
        reference="Mi et al., DuetFace: Collaborative Privacy-Preserving Face Recognition via Channel Splitting in the "
        "Frequency Domain, ACM MM 2022",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        learned=True,
        training_data="at most 1,000 images of the defender, for the range of each frequency",
        deviations=(
            "Blocks of 8x8 pixels of the image itself, not of one enlarged eightfold: 192 channels at 14x14.",
            "The map is the energy of the client's frequencies inside an ellipse, not features of a network and a hull "
            "of landmarks.",
            "Released in 8 bits a value; what a service gains from the two-sided training is not modelled.",
        ),
    )
    Config = Config

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """High frequencies in their places; the map in the place of the luma's mean; the rest empty."""
        scaled = self.scaled(images)
        low, high = freq.per_colour(CLIENT), freq.per_colour(freq.others(CLIENT))
        released = torch.zeros_like(scaled)
        released[:, high] = scaled[:, high]
        texture = low[low % freq.PLANE != 0]  # without the means: skin that is merely bright is no feature
        energy = scaled[:, texture].abs().mean(1) * _ellipse(*scaled.shape[-2:])
        least, most = energy.amin((1, 2), keepdim=True), energy.amax((1, 2), keepdim=True)
        released[:, 0] = (energy - least) / (most - least).clamp_min(1e-6)
        return freq.pack(freq.bytes_like(released), images)

    def picture(self, released: torch.Tensor) -> torch.Tensor:
        """What the high frequencies look like."""
        scaled = freq.signed(freq.unpack(released))
        low = freq.per_colour(CLIENT)
        scaled[:, low] = 0
        return self.picture_of(scaled, released)


def _ellipse(height: int, width: int) -> torch.Tensor:
    """(h, w): 1 inside the face of an aligned image, 0 outside."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    away = ((rows - _CENTRE[0]) / _AXES[0])[:, None] ** 2 + ((columns - _CENTRE[1]) / _AXES[1])[None] ** 2
    return (away <= 1).float()


DEFENSE = DuetFace
