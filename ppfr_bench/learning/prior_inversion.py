"""Faces behind a release as the prior of faces has them, and the choice of how much of it to believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ppfr_bench import device
from ppfr_bench.api import SIZE, AttackerView, to_bytes, to_float
from ppfr_bench.learning.face_prior import NOT_FOR, SIDE, face_prior, unseen_people
from ppfr_bench.learning.inversion import InversionData
from ppfr_bench.learning.inverter import rebuild
from ppfr_bench.learning.likeness import perceptual_distance, unlikeness
from ppfr_bench.learning.posterior import agreeing, sample, trust
from ppfr_bench.learning.refining import Refiner, grown, refiner
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import UNet

Way = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]  # Start, release -> answer, 112 pixels all.
Release = Callable[[torch.Tensor, int], torch.Tensor]  # Images and a seed -> what is released of them.
_BATCH = 64
_LAST = 0.05  # The noise level that sampling ends at.
_MOST_ADAPT = 1000  # The prior is adapted on at most so many images.
_MOST_CHOOSE = 64  # At most so many held-out images choose.
_EXACT = (0.5 / 255) ** 2  # No release is known more exactly than that, as variance of a value.


@dataclass(frozen=True)
class PriorSettings:
    """How the prior is used.

    Attributes:
        adapting: steps in which it learns the first answers' errors.
        rate: the greatest learning rate of these.
        perception: the weight of LPIPS in these, beside L1 and SSIM.
        batch: images a step.
        levels: of noise that samples start from, in units of half the range.
        denoisings: of a sample.
        pulls: towards the release at each.
        averaged: samples of which the mean is tried.
    """

    adapting: int
    rate: float
    perception: float
    batch: int
    levels: tuple[float, ...]
    denoisings: int
    pulls: int
    averaged: int


def choosers(view: AttackerView, data: InversionData) -> torch.Tensor:
    """Photographs by which to choose, int64 rows of ``data``: of people whom neither the U-Net nor the prior has seen.

    There are none where nobody is held out, and where the prior has no place: on images that are no photographs, and on
    data that measures people whom the prior has seen.
    """
    if not view.photographs_of or view.photographs_of in NOT_FOR or not bool(data.validation.any()):
        return torch.empty(0, dtype=torch.int64)
    rows, names = data.validation_rows, view.auxiliary.names
    unseen = unseen_people([names[int(row)] for row in data.rows[rows.numpy()]])
    return rows[torch.from_numpy(unseen)][:_MOST_CHOOSE]


def best_way(
    view: AttackerView, data: InversionData, network: UNet, release: Release, search: Way, settings: PriorSettings,
    generator: torch.Generator,
) -> tuple[Way, dict[str, Any]]:  # fmt: skip
    """The way to rebuild faces that comes out best by LPIPS on ``choosers``, of which there must be some.

    The prior is adapted to the errors of the U-Net. From its answer, or from the U-Net's where that is better, go a
    search, samples and means of samples. Nothing is chosen that does not come out better than what it starts from.

    Args:
        view: of an informed attacker.
        data: of the attacker.
        network: the U-Net, whose answers on the targets the way is given.
        release: the defense, with gradients.
        search: tried as it is.
        settings: of the prior.
        generator: of all randomness.

    Returns:
        The way, and for the record what came out.
    """
    assert view.auxiliary_protected is not None, "an informed attacker has its own images protected"
    rows = choosers(view, data)
    clear, start = _clear(data, rows), _first(network, data, rows)
    wanted = to_float(view.auxiliary_protected[data.rows[rows.numpy()]])
    distances: dict[str, float] = {}

    def best(ways: dict[str, Way]) -> str:
        for name, way in ways.items():
            answer = to_float(to_bytes(way(start, wanted, generator).clamp(0, 1)))
            with torch.no_grad():
                distances[name] = round(float(perceptual_distance(answer, clear).mean()), 5)
        return min(ways, key=lambda name: distances[name])

    log: dict[str, Any] = {"choosers": len(rows), "distances": distances}
    ways: dict[str, Way] = {"start": lambda start, wanted, generator: start}
    if settings.adapting:
        corrector, log["adaptation"] = _adapted(network, data, start, clear, settings, generator)
        ways["adapted"] = lambda start, wanted, generator: _corrected(corrector, start)
    first = best(ways)
    before = ways[first]

    def after(way: Way) -> Way:
        return lambda start, wanted, generator: way(before(start, wanted, generator), wanted, generator)

    with torch.no_grad():  # What 64 pixels cannot hold is part of the error.
        error = max(float((release(grown(resize(clear, SIDE)), 0) - wanted).square().mean()), _EXACT)
    ways = {first: before, "search": after(search)}
    for level in settings.levels:
        ways[f"sample {level}"] = after(partial(_sampled, release, error, level, 1, settings))
        if settings.averaged > 1:
            name = f"mean of {settings.averaged}, {level}"
            ways[name] = after(partial(_sampled, release, error, level, settings.averaged, settings))
    chosen = best(ways)
    return ways[chosen], log | {"chosen": list(dict.fromkeys([first, chosen])), "error": float(f"{error:.3g}")}


def _adapted(
    network: UNet, data: InversionData, start: torch.Tensor, clear: torch.Tensor, settings: PriorSettings,
    generator: torch.Generator,
) -> tuple[Refiner, dict[str, Any]]:  # fmt: skip
    """The prior, adapted to the U-Net's errors on images that the U-Net was trained on; ``start`` validates."""
    rows = data.training_rows
    rows = rows[torch.randperm(len(rows), generator=generator)[:_MOST_ADAPT]]
    answers, wanted = (torch.from_numpy(to_bytes(x)) for x in (_first(network, data, rows), _clear(data, rows)))

    def loss(answer: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return unlikeness(answer, truth, settings.perception)

    def validate(corrector: Refiner) -> float:
        with torch.no_grad():
            return float(loss(_corrected(corrector, start), clear))

    prior = face_prior.on(device.current())
    return refiner(prior, answers, wanted, settings.adapting, settings.batch, settings.rate, loss, validate, generator)


def _sampled(
    release: Release, error: float, level: float, count: int, settings: PriorSettings, start: torch.Tensor,
    wanted: torch.Tensor, generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """The mean of ``count`` samples from the start under noise, and of the start what 64 pixels lose."""
    prior, small = face_prior.on(device.current()), resize(start, SIDE)

    def denoise(noisy: torch.Tensor, level: float) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([prior(part, part.new_full((len(part),), level)) for part in noisy.split(_BATCH)])

    def guide(expected: torch.Tensor, level: float) -> torch.Tensor:
        def released(images: torch.Tensor) -> torch.Tensor:
            return release(grown((images + 1) / 2).clamp(0, 1), round(1e6 * level))

        pairs = zip(expected.split(_BATCH), wanted.split(_BATCH), strict=True)
        return torch.cat([agreeing(one, seen, released, error, trust(level), settings.pulls) for one, seen in pairs])

    levels = np.geomspace(level, min(_LAST, level / 2), settings.denoisings).tolist()
    found = torch.stack([sample(denoise, small * 2 - 1, levels, generator, guide) for _ in range(count)]).mean(0)
    return start + grown((found.clamp(-1, 1) + 1) / 2 - small)


def _first(network: UNet, data: InversionData, rows: torch.Tensor) -> torch.Tensor:
    """The U-Net's answers on the attacker's own images, float32 (n, 3, 112, 112)."""
    return resize(rebuild(network, data.own[rows], data.own_estimates[rows]), SIZE)


def _clear(data: InversionData, rows: torch.Tensor) -> torch.Tensor:
    """The attacker's own images, float32 (n, 3, 112, 112)."""
    return resize(device.to(data.clear[rows]).float() / 255, SIZE)


def _corrected(corrector: Refiner, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([(part + corrector(part)).clamp(0, 1) for part in images.split(_BATCH)])
