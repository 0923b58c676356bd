"""The prior of faces as a corrector, which takes the errors of first answers for the noise that it can remove."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.learning.face_prior import SIDE, FacePrior
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import Batch, train


class Refiner(nn.Module):
    """A copy of the prior that answers with a correction to images of 112 pixels, all that it changes within 64 pixels.

    Args:
        prior: of which the weights are copied.
        level: the error of what it is given, as the noise level that the prior is told: in units of half the range.
    """

    def __init__(self, prior: FacePrior, level: float) -> None:
        super().__init__()
        self.level = level
        self.prior = deepcopy(prior).requires_grad_(True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same shape, to be added."""
        small = resize(images, SIDE)
        better = self.prior(small * 2 - 1, small.new_full((len(small),), self.level))
        return grown((better + 1) / 2 - small)


def refiner(
    prior: FacePrior, answers: torch.Tensor, clear: torch.Tensor, steps: int, batch: int, learning_rate: float,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], validate: Callable[[Refiner], float],
    generator: torch.Generator,
) -> tuple[Refiner, dict[str, Any]]:  # fmt: skip
    """Adapt the prior to first answers.

    Args:
        prior: on the current device; it stays as it is.
        answers: uint8 (n, 3, 112, 112), first answers on the attacker's own images.
        clear: uint8 (n, 3, 112, 112), those images.
        steps: of training.
        batch: images a step, mirrored or not.
        learning_rate: the greatest of the one-cycle schedule.
        loss: of the corrected answers and the clear images, as in ``train``.
        validate: the loss on people who are not among ``answers``: the best weights are kept.
        generator: of the batches.

    Returns:
        The corrector, and what training reports.
    """
    small, wanted = (torch.cat([resize(part.float() / 255, SIDE) for part in x.split(256)]) for x in (answers, clear))
    found = Refiner(prior, 2 * float((small - wanted).square().mean().sqrt()))

    def batches() -> Iterator[Batch]:
        while True:
            order = torch.randperm(len(answers), generator=generator)
            for rows in order[: max(batch, len(order) - len(order) % batch)].split(batch):
                mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
                given, truth = (torch.where(mirrored, x.flip(-1), x) for x in (answers[rows], clear[rows]))
                first = device.to(given).float() / 255
                yield first, first, device.to(truth).float() / 255

    def validated() -> float:
        found.eval()
        return validate(found)

    log = train(found, batches(), steps, learning_rate, loss, validated)
    return found.requires_grad_(False), log | {"level": round(found.level, 4)}


def grown(images: torch.Tensor) -> torch.Tensor:
    """Enlarge to 112 pixels, linearly in the images, unlike ``resize``: nothing is clamped."""
    return functional.interpolate(images, size=(SIZE, SIZE), mode="bicubic")
