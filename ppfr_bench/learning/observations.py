"""What an attack's network is shown of protected images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import AttackerView, ByteArray, to_bytes, to_float
from ppfr_bench.learning.decoding import Decoder, LevelsDecoder
from ppfr_bench.learning.reading import Reader
from ppfr_bench.learning.resizing import resize

IMAGE_CHANNELS = 13  # What a network is shown of images: pixels 3, low bits 3, texture 1, spread 3, high-pass 3.
_AROUND = 9  # The high-pass is the pixels less the mean of so many a side.
_BATCH = 128
_BYTES = 2**26  # At most so many of releases are looked at together.
_GRID = 28  # Channels on a finer grid are averaged to so many places a side, as reading them leaves images of them.


@dataclass(frozen=True)
class Observations:
    """What is seen of n protected images, in [0, 1].

    Attributes:
        images: float16 (n, 3, s, s), the mean over the shots of the images that are released, rendered or read, decoded
            where a key was found.
        details: uint8 (n, 7, s, s), in steps of 1/255: their low four bits, the local deviation of the luma, the
            deviation over several shots.
        channels: float16 (n, 2 c, h, w), of a representation: its c channels as released, and the same channels in
            order of strength, so that a channel order of its own for every image hides less; averaged to 28 places a
            side where they have more. None where images are released.
    """

    images: torch.Tensor
    details: torch.Tensor
    channels: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: torch.Tensor | slice) -> Observations:
        channels = None if self.channels is None else self.channels[rows]
        return Observations(self.images[rows], self.details[rows], channels)

    def regression_inputs(self, size: int) -> dict[str, torch.Tensor]:
        """What a regression of the whole image can start from, by name; images at ``size`` pixels a side.

        ``images`` where images are released; ``picture``, ``channels`` and ``by strength`` of a representation.
        """
        images = torch.cat([resize(part.float(), size).half() for part in self.images.split(_BATCH)])
        if self.channels is None:
            return {"images": images}
        as_released, by_strength = self.channels.chunk(2, dim=1)
        return {"picture": images, "channels": as_released, "by strength": by_strength}

    def on_device(self) -> Observations:
        """The same on the current device."""
        channels = None if self.channels is None else device.to(self.channels)
        return Observations(device.to(self.images), device.to(self.details), channels)

    def for_network(self) -> torch.Tensor:
        """float32 (n, 13, s, s), about [0, 1]: images, details, and the images' high-pass around a half."""
        images = self.images.float()
        around = functional.avg_pool2d(images, _AROUND, 1, _AROUND // 2, count_include_pad=False)
        return torch.cat([images, self.details.float() / 255, 2 * (images - around) + 0.5], dim=1)

    @staticmethod
    def concatenated(parts: Sequence[Observations]) -> Observations:
        """All rows of one or more parts, in order."""
        channels = [part.channels for part in parts if part.channels is not None]
        images, details = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "details"))
        return Observations(images, details, torch.cat(channels) if channels else None)


def observe(
    view: AttackerView,
    shots: ByteArray,
    size: int,
    decoder: Decoder | LevelsDecoder | None,
    reading: Reader | None = None,
) -> Observations:
    """Observe protected images.

    Args:
        view: renders a representation, and says whether it is one.
        shots: uint8 (k, n, c, h, w), k releases of the same n images, as released.
        size: side in pixels of the result.
        decoder: applied to every shot first, where a key was found; never of a representation.
        reading: makes the images of a representation, where one was found; else they are rendered.

    Returns:
        Observations of the n images, on the current device.
    """
    count = max(1, min(_BATCH, _BYTES * shots.shape[1] // max(1, shots.nbytes)))
    parts = [np.asarray(shots[:, start : start + count]) for start in range(0, shots.shape[1], count)]
    if view.releases_image:
        return Observations.concatenated([Observations(*observe_images(part, size, decoder)) for part in parts])
    rendered = [np.stack([seen_as_images(view, shot, reading) for shot in part]) for part in parts]
    return Observations.concatenated(
        [
            Observations(*observe_images(image, size, None), _observe_channels(part))
            for image, part in zip(rendered, parts, strict=True)
        ]
    )


def seen_as_images(view: AttackerView, released: ByteArray, reading: Reader | None) -> ByteArray:
    """Releases uint8 (n, c, h, w) as read or, without a reading, as rendered: uint8 (n, 3, s, s)."""
    return view.render(released) if reading is None else to_bytes(reading(released))


def _observe_channels(shots: ByteArray) -> torch.Tensor:
    """Means over the shots of the channels as released and by strength, (k, n, c, h, w) -> (n, 2 c, h, w)."""
    as_released, by_strength = [], []
    for shot in shots:
        channels = to_float(shot)
        order = channels.std((2, 3)).argsort(dim=1, descending=True)
        if channels.shape[-1] > _GRID:
            channels = functional.adaptive_avg_pool2d(channels, _GRID)
        as_released.append(channels)
        by_strength.append(channels.gather(1, order[:, :, None, None].expand_as(channels)))
    return torch.cat([torch.stack(found).mean(0) for found in (as_released, by_strength)], dim=1).half()


def observe_images(
    released: ByteArray, size: int, decoder: Decoder | LevelsDecoder | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(k, n, 3, h, w) -> float16 (n, 3, size, size) and uint8 (n, 7, size, size).

    The low bits have channels of their own, as a network does not find in the pixels what is hidden in them. So has
    the local deviation of the luma, which shrinking would average away.
    """
    raw = [device.to(torch.from_numpy(np.array(shot))) for shot in released]  # A copy, as these are read-only.
    decoded = raw if decoder is None else [decoder(shot) for shot in released]
    images = torch.stack([resize(to_float(shot), size) for shot in decoded])
    low = torch.stack([resize((shot & 15).float() / 15, size) for shot in raw]).mean(0)
    luma = to_float(decoded[0]).mean(1, keepdim=True)
    texture = (resize(luma.square(), size) - resize(luma, size).square()).clamp_min(0).sqrt()
    spread = images.std(0) if len(images) > 1 else torch.zeros_like(images[0])
    details = torch.cat([low, texture, spread], dim=1)
    return images.mean(0).half(), (details.clamp(0, 1) * 255).round().to(torch.uint8)
