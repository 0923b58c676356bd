"""Block frequencies: what the frequency-domain methods release, in eight bits a value, and the image it makes."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, Faces

from . import _background

BLOCK = 8
PLANE = BLOCK**2  # One colour has so many frequencies.
CHANNELS = 3 * PLANE  # Channel 64 c + 8 v + h is colour c of Y, Cb, Cr at vertical frequency v and horizontal h.
_MEASURED = 500  # So many of the defender's images give the ranges.
_QUANTILE = 0.999
_BATCH = 64

# JPEG's colours, ITU-R BT.601 in full range: luma and two scaled colour differences.
_COLOURS = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))

ENLARGED = "The image is enlarged twofold, not eightfold, before its 8x8 blocks are taken: channels at 28x28."
IN_BYTES = "Released in 8 bits a value, each channel scaled by its range on the defender's images."


class FrequencyConfig(Config):
    """``enlarge``: how often the image is enlarged before its blocks are taken; 8 in the papers."""

    enlarge: int = Field(2, ge=1, le=8)


@device.per_device
def dct_matrix(size: int = BLOCK) -> torch.Tensor:
    """float64 (size, size), orthonormal: row k holds the cosine of frequency k (DCT-II)."""
    k, x = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    cosines: torch.Tensor = torch.cos(torch.pi * (2 * x + 1) * k / (2 * size)) * (2 / size) ** 0.5
    cosines[0] /= 2**0.5
    return cosines


@device.per_device
def _matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """(192, 192) twice: from the 3 x 64 pixels of a block to its frequencies in YCbCr, and back."""
    cosines, colours = dct_matrix.on(device.CPU), torch.tensor(_COLOURS, dtype=torch.float64)
    there = torch.kron(colours, torch.kron(cosines, cosines))
    back = torch.kron(torch.linalg.inv(colours), torch.kron(cosines.T, cosines.T))
    return there.float(), back.float()


def analyse(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1] -> (n, 192, h / 8, w / 8), grey being 0: one matrix product for colours and cosines."""
    blocks = functional.pixel_unshuffle(images - 0.5, BLOCK)
    channels: torch.Tensor = (_matrices.on(images.device)[0] @ blocks.flatten(2)).unflatten(2, blocks.shape[-2:])
    return channels


def synthesise(channels: torch.Tensor) -> torch.Tensor:
    """The images of frequencies: what ``analyse`` came from."""
    blocks = (_matrices.on(channels.device)[1] @ channels.flatten(2)).unflatten(2, channels.shape[-2:])
    images: torch.Tensor = functional.pixel_shuffle(blocks, BLOCK) + 0.5
    return images


@device.per_device
def _enlargement(side: int, enlarge: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(side * enlarge, side) and back: bilinear enlargement along one side, and its least-squares inverse."""
    unit = torch.eye(side, dtype=torch.float64)[None]
    there = functional.interpolate(unit, scale_factor=float(enlarge), mode="linear")[0].T
    return there.float(), torch.linalg.pinv(there).float()


def lift(images: torch.Tensor, enlarge: int) -> torch.Tensor:
    """Frequencies of the enlarged image, (n, 192, h * enlarge / 8, ...); edges are repeated up to whole blocks."""
    step = BLOCK // math.gcd(BLOCK, enlarge)
    bottom, right = (-side % step for side in images.shape[-2:])
    images = functional.pad(images, (0, right, 0, bottom), mode="replicate")
    rows, columns = (_enlargement.on(images.device, side, enlarge)[0] for side in images.shape[-2:])
    return analyse(rows @ images @ columns.T)


def lower(channels: torch.Tensor, enlarge: int) -> torch.Tensor:
    """The image (n, 3, h, w) whose enlargement comes nearest to these frequencies: exact for what ``lift`` gives."""
    images = synthesise(channels)
    rows, columns = (_enlargement.on(images.device, side // enlarge, enlarge)[1] for side in images.shape[-2:])
    lowered: torch.Tensor = rows @ (images - 0.5) @ columns.T + 0.5
    return lowered


class Frequency(Defense):
    """Base: measures in ``fit`` how far each frequency swings, so that eight bits a value lose little of it."""

    Config = FrequencyConfig
    ranges: torch.Tensor | None = None  # (192, 1, 1)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """The range of every frequency on the defender's images."""
        images = _background.some(faces, _MEASURED, generator)
        enlarge = self.config.enlarge
        swings = torch.cat([lift(part.float() / 255, enlarge).abs().amax((2, 3)) for part in images.split(_BATCH)])
        # The CPU takes the quantile, as torch ranks in float64, which not every device has.
        self.ranges = device.to(swings.cpu().quantile(_QUANTILE, dim=0).clamp_min(1e-3)[:, None, None])

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Frequencies (n, 192, ...) of images, each in [-1, 1] of its range; the rare ones beyond are clipped."""
        return (lift(images, self.config.enlarge) / _background.fitted(images, self.ranges)).clamp(-1, 1)

    def image_of(self, scaled: torch.Tensor) -> torch.Tensor:
        """What frequencies in [-1, 1] of their ranges look like, clipped to [0, 1]."""
        return lower(scaled * _background.fitted(scaled, self.ranges), self.config.enlarge).clamp(0, 1)


def in_bytes(values: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1], what lies beyond clipped."""
    return ((values + 1) / 2).clamp(0, 1)


def signed(values: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [-1, 1]."""
    return values * 2 - 1


def placed(values: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """(n, k, h, w) -> (n, 192, h, w): values in the places of these channels (k,) or (n, k), nothing in the others."""
    at = channels.expand(len(values), -1)[:, :, None, None].expand_as(values)
    return values.new_zeros(len(values), CHANNELS, *values.shape[-2:]).scatter(1, at, values)


def per_colour(frequencies: torch.Tensor) -> torch.Tensor:
    """Channel numbers of these frequencies (8 vertical + horizontal), (k,) or (n, k), colour by colour."""
    return torch.cat([frequencies + PLANE * colour for colour in range(3)], dim=-1)


@device.per_device
def channels_of(frequencies: tuple[int, ...]) -> torch.Tensor:
    """``per_colour`` of frequencies that never change."""
    return per_colour(torch.tensor(frequencies))


def others(frequencies: tuple[int, ...]) -> tuple[int, ...]:
    """The frequencies that are not among these, in order."""
    return tuple(sorted(set(range(PLANE)) - set(frequencies)))


WITHOUT_MEANS = others((0,))  # One colour has so many frequencies.
