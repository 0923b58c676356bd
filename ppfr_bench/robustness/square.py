"""The square attack in the l2 ball: random search by patches, without a gradient.

It is our own, as no kept library has a sound one: foolbox 3.3.4 and torchattack 1.7.2 have none, and that of the
Adversarial Robustness Toolbox 1.20.1 divides by the norm of the patch where the algorithm multiplies.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Generator, Tensor, nn

from ppfr_bench.api import IntArray

__all__ = ["QUERIES", "square_search"]

QUERIES = 10_000  # The schedule of patches is that of a search of so many queries, whatever part of it is run.
_SURE = 1.0  # Where answers differ from look to look: the wanted class is e times as likely as any other.
_TILES = 5  # The search starts from so many patches a side.
_FIRST = 0.1  # Share of the image that the first patches cover.
_HALVED = (10, 50, 200, 500, 1_000, 2_000, 4_000, 6_000, 8_000)  # After these queries the share halves.


def square_search(
    model: nn.Module, impersonates: bool, steps: int, generator: Generator, *, noisy: bool = False
) -> tuple[Callable[[Tensor, IntArray, float], Tensor], Callable[[], int]]:
    """Square attack, l2 (Andriushchenko et al., ECCV 2020, algorithm 3), each image with patches of its own.

    Args:
        model: float32 (n, 3, h, w) -> log probabilities (n, classes).
        impersonates: whether the classes that the search is given are to be reached, or else to be left.
        steps: patches that are tried.
        noisy: whether two looks at one image may differ. A patch that seems better is then looked at once more, and
            the mean of both looks decides, so that a lucky draw is not kept for a better image; and the search goes on
            until it is there by ``_SURE``.

    Returns:
        (images, classes, l2 budget) -> changed images; and what counts the looks at an image that it took.
    """
    looks, there = 0, -_SURE if noisy else 0.0

    def margin(images: Tensor, aims: Tensor) -> Tensor:
        """Falls as the attacker comes nearer; below 0 it is there."""
        nonlocal looks
        looks += len(images)
        with torch.no_grad():
            found: Tensor = model(images)
        mine = found.gather(1, aims[:, None])[:, 0]
        best_other = found.scatter(1, aims[:, None], -torch.inf).max(1).values
        ahead: Tensor = best_other - mine if impersonates else mine - best_other
        return ahead

    def search(images: Tensor, classes: IntArray, budget: float) -> Tensor:
        aims = torch.from_numpy(classes).to(images.device)
        change = _kept_within(images, _scaled(_first_patches(images.shape, generator).to(images), budget))
        best = margin(images + change, aims)
        for step in range(steps):
            open_ = torch.nonzero(best >= there)[:, 0]
            if not len(open_):
                break
            moved = _moved(change[open_], budget, _side(step, images.shape[-1]), generator)
            tried = _kept_within(images[open_], moved)
            found = margin(images[open_] + tried, aims[open_])
            better = torch.nonzero(found < best[open_])[:, 0]
            if noisy and len(better):
                again = margin(images[open_[better]] + tried[better], aims[open_[better]])
                found[better] = (found[better] + again) / 2
                better = better[found[better] < best[open_[better]]]
            rows = open_[better]
            change[rows], best[rows] = tried[better], found[better]
        return images + change

    return search, lambda: looks


def _kept_within(images: Tensor, change: Tensor) -> Tensor:
    """What is left of the change where the images may not leave [0, 1]."""
    return (images + change).clamp(0, 1) - images


def _side(step: int, height: int) -> int:
    """Of a patch at that step: odd, of 3 pixels at least, and less than half of the image."""
    share = _FIRST * 0.5 ** bisect.bisect_left(_HALVED, step)
    side = max(round(height * math.sqrt(share)), 3)
    return min(side + 1 - side % 2, height // 2 - 1)


@cache
def _patch(side: int) -> Tensor:
    """Of unit length, (side, side): one half rises to its middle, the other falls."""
    rows = torch.arange(side, dtype=torch.float32)[:, None].expand(side, side)
    columns = torch.arange(side, dtype=torch.float32)[None, :].expand(side, side)
    half = side // 2
    upper = rows < half
    middle = torch.where(upper, torch.tensor((half - 1) / 2), torch.tensor((half + side - 1) / 2))
    away = torch.maximum((rows - middle).abs(), (columns - (side - 1) / 2).abs() / 2)
    bump = 1 / (1 + away) ** 2
    found: Tensor = torch.where(upper, bump, -bump)
    length: Tensor = torch.linalg.vector_norm(found)
    return found / length


def _drawn_patches(side: int, n: int, generator: Generator) -> Tensor:
    """(n, 3, side, side) of unit length a channel, each channel of a random sign, each patch lying or standing."""
    signs = 2.0 * torch.randint(0, 2, (n, 3, 1, 1), generator=generator) - 1
    standing = torch.randint(0, 2, (n, 1, 1, 1), generator=generator) > 0
    return signs * torch.where(standing, _patch(side).T, _patch(side))


def _first_patches(shape: torch.Size, generator: Generator) -> Tensor:
    n, _, height, width = shape
    side, found = height // _TILES, torch.zeros(n, 3, height, width)
    for top in range(0, side * _TILES, side):
        for left in range(0, side * _TILES, side):
            found[:, :, top : top + side, left : left + side] = _drawn_patches(side, n, generator)
    return found


def _window(n: int, height: int, width: int, side: int, generator: Generator) -> tuple[Tensor, ...]:
    """The index of one window of each of n images, at a place of its own: (n, 3, side, side) of them."""
    tops = torch.randint(0, height - side, (n, 1, 1, 1), generator=generator)
    lefts = torch.randint(0, width - side, (n, 1, 1, 1), generator=generator)
    along = torch.arange(side)
    images, channels = torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None]
    return images, channels, tops + along[:, None], lefts + along


def _moved(change: Tensor, budget: float, side: int, generator: Generator) -> Tensor:
    """The change with what lay in two random windows put into the first, as a patch on what was there."""
    n, _, height, width = change.shape
    first, second = (_window(n, height, width, side, generator) for _ in range(2))
    unused = (budget**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp_min(0) / 3
    emptied = change.clone()
    emptied[first] = 0
    emptied[second] = 0
    freed = change.square().sum((2, 3), keepdim=True) - emptied.square().sum((2, 3), keepdim=True)
    before = change[first]
    patch = _drawn_patches(side, n, generator).to(change)
    patch = patch + before / before.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-9)
    length = patch.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-9)
    emptied[first] = patch / length * (freed.clamp_min(0) + unused).sqrt()
    return _scaled(emptied, budget)


def _scaled(change: Tensor, budget: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return change * (budget / norms.clamp_min(1e-12))
