"""Random ways to spoil an image, drawn from general image processing: what a network is pre-trained to undo.

None is a defense of this benchmark, or made from one, so that a defense that is submitted meets the same attacker as
those that the benchmark ships.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

Draw = torch.Generator
Operation = Callable[[torch.Tensor, Draw], torch.Tensor]  # float (n, 3, s, s) in [0, 1] -> the same, of any range.


@dataclass(frozen=True)
class Degradation:
    """Operations one after the other, their parameters fixed; what they draw anew for every image, they draw anew.

    Attributes:
        names: of the operations, in order.
        operations: what they do.
    """

    names: tuple[str, ...]
    operations: tuple[Operation, ...]

    def __call__(self, images: torch.Tensor, generator: Draw) -> torch.Tensor:
        """float (n, 3, s, s) in [0, 1] -> the same."""
        for operation in self.operations:
            images = operation(images, generator).clamp(0, 1)
        return images


def drawn(generator: Draw) -> Degradation:
    """One to three operations of different kinds, and their parameters."""
    count = 1 + int(torch.randint(3, (1,), generator=generator))
    order = torch.randperm(len(_KINDS), generator=generator)[:count].tolist()
    kinds = list(_KINDS.items())
    return Degradation(tuple(kinds[at][0] for at in order), tuple(kinds[at][1](generator) for at in order))


def _uniform(generator: Draw, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _scale(generator: Draw, low: float, high: float) -> float:
    """Uniform in its logarithm."""
    return math.exp(_uniform(generator, math.log(low), math.log(high)))


def _whole(generator: Draw, low: int, high: int) -> int:
    """From ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def _smooth(images: torch.Tensor, channels: int, grid: int, generator: Draw) -> torch.Tensor:
    """Normal noise at ``grid`` places a side of every image, enlarged: (n, channels, s, s)."""
    coarse = torch.randn(len(images), channels, grid, grid, generator=generator)
    return functional.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=True)


def _mean_around(images: torch.Tensor, side: int) -> torch.Tensor:
    return functional.avg_pool2d(images, side, 1, side // 2, count_include_pad=False)


def _blur(generator: Draw) -> Operation:
    from torchvision.transforms.functional import gaussian_blur

    sigma = _scale(generator, 0.7, 7.0)
    size = 2 * math.ceil(2.5 * sigma) + 1
    return lambda images, generator: gaussian_blur(images, [size, size], [sigma, sigma])


def _coarsen(generator: Draw) -> Operation:
    """Fewer pixels a side, enlarged in blocks or smoothly."""
    side, mode = _whole(generator, 7, 56), ("nearest", "bilinear")[_whole(generator, 0, 1)]
    return lambda images, generator: functional.interpolate(
        functional.adaptive_avg_pool2d(images, side), size=images.shape[-2:], mode=mode
    )


def _noise(generator: Draw) -> Operation:
    """Normal noise of a grain, in colour or grey, the same for all pixels or stronger in the brighter ones."""
    strength, grain = _scale(generator, 0.02, 0.6), 2 ** _whole(generator, 0, 4)
    channels, brighter = (1, 3)[_whole(generator, 0, 1)], _whole(generator, 0, 3) == 0

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        found = _smooth(images, channels, images.shape[-1] // grain, generator)
        return images + strength * found * (images.mean(1, keepdim=True) * 2 if brighter else 1)

    return operation


def _light(generator: Draw) -> Operation:
    """Smooth gains and offsets of each image's own."""
    gain, offset, grid = _uniform(generator, 0, 0.8), _uniform(generator, 0, 0.4), _whole(generator, 2, 7)
    channels = (1, 3)[_whole(generator, 0, 1)]

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        gains = 1 + gain * _smooth(images, channels, grid, generator)
        return 0.5 + (images - 0.5) * gains + offset * _smooth(images, channels, grid, generator)

    return operation


def _contrast(generator: Draw) -> Operation:
    """Details kept or raised, and of what surrounds them only a share."""
    side, kept = 2 * _whole(generator, 3, 20) + 1, _uniform(generator, 0, 0.6)
    even, gain = _uniform(generator, 0, 1), _uniform(generator, 0.6, 2.0)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        around = _mean_around(images, side)
        details = images - around
        deviation = _mean_around(details.square(), side).sqrt() + 0.02
        return 0.5 + kept * (around - 0.5) + gain * details * (0.15 / deviation) ** even

    return operation


def _levels(generator: Draw) -> Operation:
    """Few levels, with or without noise before they are rounded."""
    count, dither = _whole(generator, 2, 12), _whole(generator, 0, 1)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        shift = (torch.rand(images.shape, generator=generator) - 0.5) * dither
        return (images * (count - 1) + shift).round() / (count - 1)

    return operation


def _warp(generator: Draw) -> Operation:
    """Pixels moved by a smooth field of each image's own."""
    grid, reach = _whole(generator, 3, 9), _scale(generator, 0.5, 6.0)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        size = images.shape[-1]
        places = torch.linspace(-1, 1, size)
        still = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1)
        moved = _smooth(images, 2, grid, generator).permute(0, 2, 3, 1) * (2 * reach / size)
        return functional.grid_sample(images, still + moved, padding_mode="reflection", align_corners=True)

    return operation


def _cover(generator: Draw) -> Operation:
    """Patches of each image's own that show a grey or noise."""
    share, side, noisy = _uniform(generator, 0.05, 0.6), _whole(generator, 4, 14), _whole(generator, 0, 1)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        covered = (torch.rand(len(images), 1, side, side, generator=generator) < share).float()
        covered = functional.interpolate(covered, size=images.shape[-2:])
        grey = torch.rand(len(images), 3, 1, 1, generator=generator)
        shown = torch.rand(images.shape, generator=generator) if noisy else grey
        return images * (1 - covered) + shown * covered

    return operation


def _mixture(generator: Draw) -> Operation:
    """Another image laid over it, as it is or as a negative."""
    share, negative = _uniform(generator, 0.15, 0.5), _whole(generator, 0, 3) == 0

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        others = images[torch.randperm(len(images), generator=generator)]
        return (1 - share) * images + share * (1 - others if negative else others)

    return operation


def _colours(generator: Draw) -> Operation:
    """A linear mixture of the colours and a curve."""
    mix = (1 - (share := _uniform(generator, 0, 1))) * torch.eye(3) + share * torch.randn(3, 3, generator=generator) / 2
    power, grey = _scale(generator, 0.5, 2.0), _whole(generator, 0, 2) == 0

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        mixed = 0.5 + torch.einsum("ij,njhw->nihw", mix, images - 0.5)
        mixed = mixed.mean(1, keepdim=True).expand_as(images) if grey else mixed
        return mixed.clamp(0, 1) ** power

    return operation


def _bands(generator: Draw) -> Operation:
    """Frequencies between two bounds weakened, the phases of all shifted at random a little."""
    low, high = sorted((_scale(generator, 1, 56), _scale(generator, 1, 56)))
    left, shift = _uniform(generator, 0, 0.7), _uniform(generator, 0, 1.2) * _whole(generator, 0, 1)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        size = images.shape[-1]
        found = torch.fft.rfft2(images - 0.5)
        distance = (torch.fft.fftfreq(size)[:, None].square() + torch.fft.rfftfreq(size)[None].square()).sqrt() * size
        found = found * torch.where((distance >= low) & (distance <= high), left, 1.0)
        angles = shift * torch.randn(len(images), 1, *found.shape[-2:], generator=generator)
        moved: torch.Tensor = torch.fft.irfft2(found * torch.polar(torch.ones_like(angles), angles), s=(size, size))
        return moved + 0.5

    return operation


def _tiles(generator: Draw) -> Operation:
    """Tiles in another order, the same for all images."""
    side = (7, 8, 14, 16, 28)[_whole(generator, 0, 4)]
    order = torch.randperm((112 // side) ** 2, generator=generator)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        size = images.shape[-1]
        tiles = functional.unfold(images, side, stride=side)[:, :, order]
        return functional.fold(tiles, size, side, stride=side)

    return operation


def _holes(generator: Draw) -> Operation:
    """Single pixels replaced by black, by noise, or by the mean of those around that are left."""
    share, way = _uniform(generator, 0.1, 0.9), _whole(generator, 0, 2)

    def operation(images: torch.Tensor, generator: Draw) -> torch.Tensor:
        left = (torch.rand(len(images), 1, *images.shape[-2:], generator=generator) > share).float()
        if way == 0:
            return images * left
        if way == 1:
            return images * left + torch.rand(images.shape, generator=generator) * (1 - left)
        mean = _mean_around(images * left, 9) / _mean_around(left, 9).clamp_min(1e-2)
        return images * left + mean * (1 - left)

    return operation


_KINDS: dict[str, Callable[[Draw], Operation]] = {
    "blur": _blur, "coarsen": _coarsen, "noise": _noise, "light": _light, "contrast": _contrast, "levels": _levels,
    "warp": _warp, "cover": _cover, "mixture": _mixture, "colours": _colours, "bands": _bands, "tiles": _tiles,
    "holes": _holes,
}  # fmt: skip
