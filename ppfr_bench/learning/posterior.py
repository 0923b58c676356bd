"""Samples of what may stand behind a release: the reverse of a diffusion, held to what was released at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from ppfr_bench.learning.face_prior import SPREAD

Images = torch.Tensor  # Floats (n, ...).
_STEP = 0.01  # How far, at most, any value is moved to see what the release makes of a direction.


def sample(
    denoise: Callable[[Images, float], Images], start: Images, levels: Sequence[float], generator: torch.Generator,
    guide: Callable[[Images, float], Images] | None = None, fresh: float = 0.0,
) -> Images:  # fmt: skip
    """One sample for each of n starts, which are drowned in noise of the first level.

    Args:
        denoise: (noisy, level) -> what is expected behind noise of that standard deviation.
        start: (n, ...); what is finer or fainter than the first level's noise is drawn anew.
        levels: of the noise, descending, all greater than 0.
        generator: of the noise, on the CPU.
        guide: (expected, level) -> what is expected with the release taken into account; None to heed no release.
        fresh: share of the noise that is drawn anew at every step, as a standard deviation, 0 to 1.

    Returns:
        (n, ...), what is expected behind the last level's noise.

    Source: Karras et al., NeurIPS 2022; DDIM, Song, Meng and Ermon, ICLR 2021; start, SDEdit, Meng et al., ICLR 2022.
    """

    def noise() -> Images:
        return torch.randn(start.shape, generator=generator).to(start)

    noisy, expected = start + levels[0] * noise(), start
    for level, following in pairwise([*levels, 0.0]):
        expected = denoise(noisy, level)
        if guide is not None:
            expected = guide(expected, level)
        if following:
            kept = (noisy - expected) * ((1 - fresh**2) ** 0.5 / level)
            noisy = expected + following * (kept + fresh * noise() if fresh else kept)
    return expected


def trust(level: float) -> float:
    """Variance of what is expected behind noise of a level, for images whose spread is that of the prior."""
    return level**2 * SPREAD**2 / (level**2 + SPREAD**2)


def agreeing(
    expected: Images, wanted: Images, release: Callable[[Images], Images], error: float, variance: float, steps: int
) -> Images:
    """The images near ``expected`` that would have been released as ``wanted``.

    Minimises |release(x) - wanted|^2 / ``error`` + |x - expected|^2 / ``variance`` from ``expected``, by conjugate
    directions: for a linear release and Gaussian images it is the mean given both. No gradient of a denoiser is needed.

    Args:
        expected: (n, ...).
        wanted: (n, ...), of the release's shape.
        release: differentiable, and the same at every call.
        error: variance of each value of ``wanted`` about the release of the true images.
        variance: of each value of ``expected`` about the true images.
        steps: at most so many, a gradient and two releases each.

    Source: plug-and-play data steps, Zhu et al., DiffPIR, CVPR Workshops 2023; Nocedal and Wright, Numerical
    Optimization, chapter 5.
    """
    found, direction, before = expected.detach(), None, None
    for _ in range(steps):
        found = found.detach().requires_grad_(True)
        with torch.enable_grad():
            released = release(found)
            miss = (released - wanted).square().sum() / (2 * error)
            (pull,) = torch.autograd.grad(miss, found)
        found = found.detach()
        gradient = pull + (found - expected) / variance
        if direction is None or before is None:
            direction = -gradient
        else:
            again = (_dot(gradient, gradient - before) / _dot(before, before).clamp_min(1e-30)).clamp_min(0)
            direction = again * direction - gradient
        before = gradient
        scale = _STEP / direction.abs().flatten(1).amax(1).clamp_min(1e-30).reshape(_column(direction))
        with torch.no_grad():
            moved = (release(found + scale * direction) - released.detach()) / scale.reshape(_column(released))
        bend = _dot(moved, moved).reshape(_column(direction)) / error + _dot(direction, direction) / variance
        found = found - direction * _dot(gradient, direction) / bend.clamp_min(1e-30)
    return found


def _column(images: Images) -> tuple[int, ...]:
    """The shape that has one value an image, to go with images of this shape."""
    return (len(images),) + (1,) * (images.dim() - 1)


def _dot(one: Images, other: Images) -> Images:
    """Inner products image by image, (n, 1, ...)."""
    return (one * other).flatten(1).sum(1).reshape(_column(one))
