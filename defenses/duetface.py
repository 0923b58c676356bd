"""DuetFace: the server gets the high frequencies, and from the client a map of where to look."""

from __future__ import annotations

import torch

from ppfr_bench import device
from ppfr_bench.api import DefenseCard

from . import _frequency as freq

CLIENT = (0, 1, 2, 3, 4, 5, 8, 9, 16, 24)  # These frequencies stay with the client.
_HIGH = freq.others(CLIENT)
_SKIN = CLIENT[1:]  # Without the means, as skin that is merely bright is no feature.
# The face's ellipse on an aligned image, in rows and columns, as shares of the side.
_CENTRE, _AXES = (0.53, 0.5), (0.42, 0.34)


class DuetFace(freq.Frequency):
    """Deterministic: 54 of 64 frequencies of each colour as they are, and one number a block of what the client saw."""

    version = 1
    card = DefenseCard(
        title="DuetFace",
        plain="Sends only the fine detail of the photo to the server, unchanged, together with a rough map of where"
        " the rest of the face was strong.",
        family="frequency domain",
        reference="Mi et al., DuetFace: Collaborative Privacy-Preserving Face Recognition via Channel Splitting in the "
        "Frequency Domain, ACM MM 2022",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        learned=True,
        training_data="at most 500 images of the defender, for the range of each frequency",
        deviations=(
            freq.ENLARGED,
            freq.IN_BYTES,
            "The map is the energy of the client's frequencies inside an ellipse, not features of a network and a hull "
            "of landmarks.",
            "What a service gains from the two-sided training is not modelled.",
        ),
    )

    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, 163, h, w): the high frequencies of the three colours, then the map."""
        scaled, where = self.scaled(images), images.device
        high, skin = (freq.channels_of.on(where, frequencies) for frequencies in (_HIGH, _SKIN))
        energy = scaled[:, skin].abs().mean(1, keepdim=True) * _ellipse.on(where, *scaled.shape[-2:])
        least, most = energy.amin((2, 3), keepdim=True), energy.amax((2, 3), keepdim=True)
        look_at = (energy - least) / (most - least).clamp_min(1e-6)
        return torch.cat([freq.in_bytes(scaled[:, high]), look_at], dim=1)

    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """What the high frequencies look like."""
        high = freq.channels_of.on(released.device, _HIGH)
        return self.image_of(freq.placed(freq.signed(released[:, :-1]), high))


@device.per_device
def _ellipse(height: int, width: int) -> torch.Tensor:
    """(h, w): 1 inside the face of an aligned image, 0 outside."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    away = ((rows - _CENTRE[0]) / _AXES[0])[:, None] ** 2 + ((columns - _CENTRE[1]) / _AXES[1])[None] ** 2
    return (away <= 1).float()


DEFENSE = DuetFace
