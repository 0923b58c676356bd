"""Block frequencies: what the frequency-domain methods release, in eight bits a value, and the image it makes."""

from __future__ import annotations

import math
from abc import abstractmethod

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
_VALUES = 256  # At most so many images at a time, if they are not enlarged.
_COARSE = 28  # Sides beyond this are averaged down where a defense learns.

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


@device.per_device
def _around_pixel() -> torch.Tensor:
    """(192, 3, 3, 3): from a pixel and those around it to the frequencies of the block that it is enlarged to."""
    after = (torch.arange(BLOCK, dtype=torch.float64) + 0.5) / BLOCK - 0.5  # Where the block's pixels lie, about it.
    up = torch.stack([(-after).clamp_min(0), 1 - after.abs(), after.clamp_min(0)], dim=1)
    taps, colours = dct_matrix.on(device.CPU) @ up, torch.tensor(_COLOURS, dtype=torch.float64)
    kernel: torch.Tensor = torch.einsum("cr,vy,hx->cvhryx", colours, taps, taps)
    return kernel.reshape(CHANNELS, 3, 3, 3).float()


def lift(images: torch.Tensor, enlarge: int) -> torch.Tensor:
    """Frequencies of the enlarged image, (n, 192, h * enlarge / 8, ...); edges are repeated up to whole blocks."""
    if enlarge == BLOCK:  # A block is a pixel, and sees only the pixels around it: a tenth of the arithmetic.
        padded = functional.pad(images - 0.5, (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, _around_pixel.on(images.device))
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


def at_a_time(enlarge: int) -> int:
    """Images that are enlarged together: 64 twofold, 4 eightfold, which take half a gigabyte either way."""
    return max(1, _VALUES // enlarge**2)


def coarse(values: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) -> the same where h and w are 28 at most, else averaged to 28 or a little more a side."""
    step = max(1, min(values.shape[-2:]) // _COARSE)
    return values if step == 1 else functional.avg_pool2d(values, step)


class Frequency(Defense):
    """Base: measures in ``fit`` how far each frequency swings, so that eight bits a value lose little of it.

    A subclass defines ``sent`` and ``shown``, which are ``protect`` and ``render`` of a few images at a time.
    """

    Config = FrequencyConfig
    ranges: torch.Tensor | None = None  # (192, 1, 1)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """The range of every frequency on the defender's images."""
        images = _background.some(faces, _MEASURED, generator)
        enlarge = self.config.enlarge
        parts = images.split(at_a_time(enlarge))
        swings = torch.cat([lift(part.float() / 255, enlarge).abs().amax((2, 3)) for part in parts])
        # The CPU takes the quantile, as torch ranks in float64, which not every device has.
        self.ranges = device.to(swings.cpu().quantile(_QUANTILE, dim=0).clamp_min(1e-3)[:, None, None])

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """``sent``, a few images at a time."""
        return torch.cat([self.sent(part, generator) for part in images.split(at_a_time(self.config.enlarge))])

    def render(self, released: torch.Tensor) -> torch.Tensor:
        """``shown``, a few images at a time."""
        return torch.cat([self.shown(part) for part in released.split(at_a_time(self.config.enlarge))])

    @abstractmethod
    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What is released, (n, c, h, w)."""

    @abstractmethod
    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """The image of what is released, (n, 3, h, w)."""

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
