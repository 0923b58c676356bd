"""Block frequencies: what the frequency-domain methods release, how it fits in an image, the picture it makes."""

from __future__ import annotations

from functools import cache

import torch
from torch.nn import functional

from ppfr_bench.api import Defense, Faces

from . import _background

BLOCK = 8
PLANE = BLOCK**2  # frequencies of one colour
CHANNELS = 3 * PLANE  # Y, Cb, Cr; channel 64 colour + 8 vertical + horizontal frequency
_MEASURED = 1000  # of the defender's images, for the ranges
_QUANTILE = 0.999
_BATCH = 64

# JPEG's colours, ITU-R BT.601 in full range: luma and two scaled colour differences.
_COLOURS = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@cache
def dct_matrix(size: int = BLOCK) -> torch.Tensor:
    """float64 (size, size), orthonormal: row k holds the cosine of frequency k (DCT-II)."""
    k, x = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    cosines: torch.Tensor = torch.cos(torch.pi * (2 * x + 1) * k / (2 * size)) * (2 / size) ** 0.5
    cosines[0] /= 2**0.5
    return cosines


@cache
def _matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """(192, 192) twice: from the 3 x 64 pixels of a block to its frequencies in YCbCr, and back."""
    cosines, colours = dct_matrix(), torch.tensor(_COLOURS, dtype=torch.float64)
    there = torch.kron(colours, torch.kron(cosines, cosines))
    back = torch.kron(torch.linalg.inv(colours), torch.kron(cosines.T, cosines.T))
    return there.float(), back.float()


def analyse(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1] -> (n, 192, h // 8, w // 8), grey being 0: one matrix product for colours and cosines."""
    height, width = (side - side % BLOCK for side in images.shape[-2:])
    blocks = functional.pixel_unshuffle(images[..., :height, :width] - 0.5, BLOCK)
    channels: torch.Tensor = (_matrices()[0] @ blocks.flatten(2)).unflatten(2, blocks.shape[-2:])
    return channels


def synthesise(channels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The images of frequencies (n, 192, h // 8, w // 8), of the size of ``like``: grey beyond the last whole block."""
    blocks = (_matrices()[1] @ channels.flatten(2)).unflatten(2, channels.shape[-2:])
    return _framed(functional.pixel_shuffle(blocks, BLOCK) + 0.5, like)


def pack(channels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(n, 192, h // 8, w // 8) in [0, 1] -> (n, 3, h, w): each block holds its own channels."""
    return _framed(functional.pixel_shuffle(channels, BLOCK), like)


def unpack(released: torch.Tensor) -> torch.Tensor:
    """What was packed."""
    height, width = (side - side % BLOCK for side in released.shape[-2:])
    channels: torch.Tensor = functional.pixel_unshuffle(released[..., :height, :width], BLOCK)
    return channels


def _framed(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[-2:]
    return functional.pad(images, (0, like.shape[-1] - width, 0, like.shape[-2] - height), value=0.5)


class Frequency(Defense):
    """Base: measures in ``fit`` how far each frequency swings, so that eight bits a value lose little of it."""

    ranges: torch.Tensor | None = None  # (192, 1, 1)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """The range of every frequency on the defender's images."""
        images = _background.some(faces, _MEASURED, generator)
        swings = torch.cat([analyse(part.float() / 255).abs().amax((2, 3)) for part in images.split(_BATCH)])
        self.ranges = swings.quantile(_QUANTILE, dim=0).clamp_min(1e-3)[:, None, None]

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """Frequencies (n, 192, ...) of images, each in [-1, 1] of its range; the rare ones beyond are clipped."""
        return (analyse(images) / _background.fitted(self.ranges)).clamp(-1, 1)

    def picture_of(self, scaled: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """What frequencies in [-1, 1] of their ranges look like, clipped to [0, 1]."""
        return synthesise(scaled * _background.fitted(self.ranges), like).clamp(0, 1)


def bytes_like(values: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1], what lies beyond clipped."""
    return ((values + 1) / 2).clamp(0, 1)


def signed(values: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [-1, 1]."""
    return values * 2 - 1


def per_colour(frequencies: tuple[int, ...]) -> torch.Tensor:
    """Channel numbers of these frequencies (8 vertical + horizontal) in all three colours, colour by colour."""
    return torch.cat([torch.tensor(frequencies) + PLANE * colour for colour in range(3)])


def others(frequencies: tuple[int, ...]) -> tuple[int, ...]:
    """The frequencies that are not among these, in order."""
    return tuple(sorted(set(range(PLANE)) - set(frequencies)))
