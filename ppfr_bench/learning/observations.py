"""What an attack's network is shown of protected images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ppfr_bench import device
from ppfr_bench.api import AttackerView, ByteArray, to_float
from ppfr_bench.learning.decoding import Decoder
from ppfr_bench.learning.resizing import resize

IMAGE_CHANNELS = 10  # An observation's images: pixels 3, low bits 3, texture 1, spread over the shots 3.
_BATCH = 128


@dataclass(frozen=True)
class Observations:
    """What is seen of n protected images, float16 in [0, 1].

    Attributes:
        images: (n, 10, s, s), of the images that are released or rendered: their pixels (decoded, where a key was
            found), their low four bits, the local deviation of the luma, the deviation over several shots.
        channels: (n, 2 c, h, w), of a representation: its c channels as released, and the same channels in order of
            strength, so that a channel order of its own for every image hides less. None where images are released.
    """

    images: torch.Tensor
    channels: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: torch.Tensor | slice) -> Observations:
        return Observations(self.images[rows], None if self.channels is None else self.channels[rows])

    def regression_inputs(self) -> dict[str, torch.Tensor]:
        """What a regression of the whole image can start from, by name.

        ``images`` where images are released; ``picture``, ``channels`` and ``by strength`` of a representation.
        """
        if self.channels is None:
            return {"images": self.images[:, :3]}
        as_released, by_strength = self.channels.chunk(2, dim=1)
        return {"picture": self.images[:, :3], "channels": as_released, "by strength": by_strength}

    def on_device(self) -> Observations:
        """The same on the current device."""
        return Observations(device.to(self.images), None if self.channels is None else device.to(self.channels))

    @staticmethod
    def concatenated(parts: Sequence[Observations]) -> Observations:
        """All rows of one or more parts, in order."""
        channels = [part.channels for part in parts if part.channels is not None]
        return Observations(torch.cat([part.images for part in parts]), torch.cat(channels) if channels else None)


def observe(view: AttackerView, shots: ByteArray, size: int, decoder: Decoder | None) -> Observations:
    """Observe protected images.

    Args:
        view: renders a representation, and says whether it is one.
        shots: uint8 (k, n, c, h, w), k releases of the same n images, as released.
        size: side in pixels of the result.
        decoder: applied to every shot first, where a key was found; never of a representation.

    Returns:
        Observations of the n images, on the current device.
    """
    parts = [np.asarray(shots[:, start : start + _BATCH]) for start in range(0, shots.shape[1], _BATCH)]
    if view.releases_image:
        return Observations(torch.cat([_observe_images(part, size, decoder) for part in parts]))
    rendered = [np.stack([view.render(shot) for shot in part]) for part in parts]
    return Observations(
        torch.cat([_observe_images(part, size, None) for part in rendered]),
        torch.cat([_observe_channels(part) for part in parts]),
    )


def _observe_channels(shots: ByteArray) -> torch.Tensor:
    """Means over the shots of the channels as released and by strength, (k, n, c, h, w) -> (n, 2 c, h, w)."""
    as_released, by_strength = [], []
    for shot in shots:
        channels = to_float(shot)
        order = channels.std((2, 3)).argsort(dim=1, descending=True)
        as_released.append(channels)
        by_strength.append(channels.gather(1, order[:, :, None, None].expand_as(channels)))
    return torch.cat([torch.stack(found).mean(0) for found in (as_released, by_strength)], dim=1).half()


def _observe_images(released: ByteArray, size: int, decoder: Decoder | None) -> torch.Tensor:
    """(k, n, 3, h, w) -> (n, 10, size, size).

    The low bits have channels of their own, as a network does not find in the pixels what is hidden in them. So has
    the local deviation of the luma, which shrinking would average away.
    """
    raw = [device.to(torch.from_numpy(shot)) for shot in released]
    decoded = raw if decoder is None else [decoder(shot) for shot in released]
    images = torch.stack([resize(to_float(shot), size) for shot in decoded])
    low = torch.stack([resize((shot & 15).float() / 15, size) for shot in raw]).mean(0)
    luma = to_float(decoded[0]).mean(1, keepdim=True)
    texture = (resize(luma.square(), size) - resize(luma, size).square()).clamp_min(0).sqrt()
    spread = images.std(0) if len(images) > 1 else torch.zeros_like(images[0])
    return torch.cat([images.mean(0), low, texture, spread], dim=1).half()
