"""Ways to rebuild a face, some with the prior of faces, and which of them is best on held-out people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from ppfr_bench import device
from ppfr_bench.api import SIZE, AttackerView, ByteArray, to_bytes, to_float
from ppfr_bench.learning.face_prior import NOT_FOR, SIDE, face_prior, unseen_people
from ppfr_bench.learning.inversion import JUDGED, InversionData
from ppfr_bench.learning.inverter import rebuild
from ppfr_bench.learning.likeness import measured, unlikeness
from ppfr_bench.learning.posterior import agreeing, sample, trust
from ppfr_bench.learning.refining import Refiner, grown, refiner
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import UNet
from ppfr_bench.learning.validation import evenly_spaced
from ppfr_bench.metrics import is_better

Way = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]  # Start, release -> answer, 112 pixels all.
Release = Callable[[torch.Tensor, int], torch.Tensor]  # Images and a seed -> what is released of them.
_BATCH = 64
_LAST = 0.05  # The noise level that sampling ends at.
_MOST_ADAPT = 1000  # The prior is adapted on at most so many images.
_MOST_CHOOSE = 64  # At most so many held-out images choose whether the prior is made use of.
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


@dataclass(frozen=True)
class HeldOut:
    """Images of the attacker's own that ways are compared on, of people whom nothing was learnt from.

    With one person only they are that person's, as in ``InversionData.validation_rows``.

    Attributes:
        clear: uint8 (n, 3, 112, 112).
        start: the U-Net's answers, float32 of the same shape.
        released: of each the mean of as many releases as there are of a target, float32 (n, ...).
        by_prior: whether the prior of faces has seen none of these people, and has a place here.
    """

    clear: ByteArray
    start: torch.Tensor
    released: torch.Tensor
    by_prior: bool


def held_out(view: AttackerView, data: InversionData, network: UNet) -> HeldOut:
    """What the ways of an informed attacker are compared on."""
    rows = unseen_by_prior(view, data)
    by_prior = bool(len(rows))
    if not by_prior:
        rows = data.some_validation_rows(JUDGED)
    places = data.rows[rows.numpy()]
    clear = view.auxiliary.load(places)
    assert view.auxiliary_protected is not None and view.oracle is not None, "an informed attacker has both"
    released = [np.asarray(view.auxiliary_protected[places])]
    released += [view.oracle.protect(clear) for _ in range(len(view.targets) - 1)]
    return HeldOut(clear, _first(network, data, rows), mean_release(released), by_prior)


def mean_release(shots: Iterable[ByteArray]) -> torch.Tensor:
    """Of each image the mean of its releases, uint8 (n, ...) each -> float32 (n, ...)."""
    return torch.stack([to_float(shot) for shot in shots]).mean(0)


def unseen_by_prior(view: AttackerView, data: InversionData) -> torch.Tensor:
    """Photographs by which to choose, int64 rows of ``data``: of people whom neither the U-Net nor the prior has seen.

    There are none where nobody is held out, and where the prior has no place: on images that are no photographs, and on
    data that measures people whom the prior has seen.
    """
    if not view.photographs_of or view.photographs_of in NOT_FOR or not bool(data.validation.any()):
        return torch.empty(0, dtype=torch.int64)
    rows, names = data.validation_rows, view.auxiliary.names
    unseen = unseen_people([names[int(row)] for row in data.rows[rows.numpy()]])
    return torch.from_numpy(evenly_spaced(rows.numpy()[unseen], _MOST_CHOOSE))


@dataclass
class Ways:
    """Ways to rebuild faces, and how near each comes to held-out people by the measures that leakage is told by.

    Attributes:
        held_out: what they are compared on.
        generator: of all randomness.
        ways: by name, from the first that was added.
        reached: by name, the mean of each measure.
        log: for the record.
    """

    held_out: HeldOut
    generator: torch.Generator
    ways: dict[str, Way] = field(default_factory=dict)
    reached: dict[str, dict[str, float]] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, way: Way) -> None:
        """Try a way on the held-out people."""
        answer = way(self.held_out.start, self.held_out.released, self.generator).clamp(0, 1)
        found = measured(answer, self.held_out.clear)
        self.ways[name], self.reached[name] = way, {measure: round(value, 5) for measure, value in found.items()}

    def best(self, measure: str) -> str:
        """The way that comes out best; an earlier one, unless a later one is better."""
        names = list(self.ways)
        chosen = names[0]
        for name in names[1:]:
            if is_better(measure, self.reached[name][measure], self.reached[chosen][measure]):
                chosen = name
        return chosen

    @property
    def chosen(self) -> dict[str, str]:
        """By measure, the name of the best way."""
        return {measure: self.best(measure) for measure in next(iter(self.reached.values()))}


def compared_ways(
    view: AttackerView, data: InversionData, network: UNet, release: Release, search: Way, settings: PriorSettings,
    generator: torch.Generator,
) -> Ways:  # fmt: skip
    """The U-Net's answer as it is, and the ways that start from it, on held-out people.

    One is a search. Where the prior has a place it is adapted to the errors of the U-Net. Then its answer is tried, and
    from it, or from the U-Net's where that is better by LPIPS, go the search, samples and means of samples.

    Args:
        view: of an informed attacker.
        data: of the attacker.
        network: the U-Net, whose answers on the targets a way is given.
        release: the defense, with gradients.
        search: tried as it is.
        settings: of the prior.
        generator: of all randomness.
    """
    found = Ways(held_out(view, data, network), generator)
    found.add("start", lambda start, released, generator: start)
    if not found.held_out.by_prior:
        found.add("search", search)
        return found
    if settings.adapting:
        corrector, found.log["adaptation"] = _adapted(network, view, data, found.held_out, settings, generator)
        found.add("adapted", lambda start, released, generator: _corrected(corrector, start))
    before = found.ways[found.best("lpips")]

    def after(way: Way) -> Way:
        return lambda start, released, generator: way(before(start, released, generator), released, generator)

    with torch.no_grad():  # What 64 pixels cannot hold is part of the error.
        again = release(grown(resize(to_float(found.held_out.clear), SIDE)), 0)
        error = max(float((again - found.held_out.released).square().mean()), _EXACT)
    found.log["error"] = float(f"{error:.3g}")
    found.add("search", after(search))
    for level in settings.levels:
        found.add(f"sample {level}", after(partial(_sampled, release, error, level, 1, settings)))
        if settings.averaged > 1:
            way = after(partial(_sampled, release, error, level, settings.averaged, settings))
            found.add(f"mean of {settings.averaged}, {level}", way)
    return found


def _adapted(
    network: UNet, view: AttackerView, data: InversionData, unseen: HeldOut, settings: PriorSettings,
    generator: torch.Generator,
) -> tuple[Refiner, dict[str, Any]]:  # fmt: skip
    """The prior, adapted to the U-Net's errors on images that the U-Net was trained on; ``unseen`` validates."""
    rows = data.training_rows
    rows = rows[torch.randperm(len(rows), generator=generator)[:_MOST_ADAPT]]
    answers = torch.from_numpy(to_bytes(_first(network, data, rows)))
    wanted = torch.from_numpy(view.auxiliary.load(data.rows[rows.numpy()]))
    clear = to_float(unseen.clear)

    def loss(answer: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return unlikeness(answer, truth, settings.perception)

    def validate(corrector: Refiner) -> float:
        with torch.no_grad():
            return float(loss(_corrected(corrector, unseen.start), clear))

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


def _corrected(corrector: Refiner, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([(part + corrector(part)).clamp(0, 1) for part in images.split(_BATCH)])
