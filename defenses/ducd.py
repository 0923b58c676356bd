"""DUCD: a surrogate distilled from what the service answers, and smoothed with the noise that certifies most."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import DefenseCard
from ppfr_bench.robustness.api import Access, Given, HardenedClassifier
from ppfr_bench.robustness.distilling import (
    distillation,
    learn_faces,
    mean_certified_radius,
    own_rows,
    small_images,
    train,
)
from ppfr_bench.robustness.smoothing import Noise

from ._surrogate import POOLED, SMALL, Surrogate, SurrogateConfig, new_network

_VALIDATION = 5  # Every fifth photo decides on the noise.
_DRAWS = 100


class DucdConfig(SurrogateConfig):
    """Of the distillation, and of the noise that is chosen from.

    ``deviations`` are those of noise on the whole image; ``families`` those with a certificate.
    """

    temperature: float = Field(4.0, gt=0)
    soft_share: float = Field(0.9, ge=0, le=1)
    families: tuple[str, ...] = ("gaussian", "laplace", "uniform")
    deviations: tuple[float, ...] = (0.5, 1.0)


class Ducd(Surrogate):
    """Queries the service with photos of the enrolled people that it was not trained on, and with other people's.

    The surrogate learns the service's probabilities under noise of all kinds that are chosen from; then the noise is
    the one under which held-out photos have the largest mean certified l2 radius, and the surrogate is trained on under
    that one alone. The service's weights and its training photos are not known to it.
    """

    version = 1
    card = DefenseCard(
        title="DUCD",
        plain="Trains a substitute for a recognition service from the service's answers alone. The substitute "
        "decides under random noise, which makes it possible to prove for many photos that no small change "
        "alters the decision.",
        family="model defense",
        reference="Distillation-based universal black-box model defense, arXiv 2408.10647, 2024",
        licence="MIT",
        learned=True,
        training_data="what the service answers to photos of the enrolled people that it was not trained on, and to at "
        "most 2,000 images of the defender's people",
        deviations=(
            "Only the abstract was open: distillation, smoothing with optimised noise and less membership inference "
            "are the paper's, everything else is our reconstruction.",
            "Noise is chosen from Gaussian, Laplace and uniform noise, whose certificates are proved, instead of from "
            "generalised Gaussians, whose l2 radii need a numeric bound.",
            "It is chosen by a grid, for the l2 norm; certified l1 and largest-value radii are those of the ball "
            "inside.",
            SMALL,
        ),
    )
    Config = DucdConfig

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Query, learn under all noises, choose one, and learn under it."""
        config, classes = self.config, given.service.classes
        photos, own = small_images(given.photos), small_images(given.own)
        answers = torch.cat([given.service.query(given.photos[i : i + 64]) for i in range(0, len(given.photos), 64)])
        network = new_network(classes, config.width, generator)
        choices = [Noise(f, d / POOLED) for f in config.families for d in config.deviations]

        def any_noise() -> Noise:
            return choices[int(torch.randint(len(choices), (1,), generator=generator))]

        learn_faces(network, given.own, own, config.steps, any_noise, generator, self._asked(given), config.temperature)
        loss = distillation(answers, config.temperature, config.soft_share)
        deciding = np.arange(len(photos)) % _VALIDATION == 0
        kept, held_out = (torch.from_numpy(np.flatnonzero(side)) for side in (~deciding, deciding))
        part = distillation(answers[kept], config.temperature, config.soft_share)
        train(network, photos[kept], part, config.steps // 3, any_noise, generator, 1e-3)
        labels = answers[held_out].argmax(1)
        radii = [
            mean_certified_radius(network, photos[held_out], labels, noise, _DRAWS, generator) * POOLED
            for noise in choices
        ]
        noise = choices[int(np.argmax(radii))]
        last = train(network, photos, loss, config.steps // 3, noise, generator, 1e-3)
        tried = {f"{one.family} {one.deviation * POOLED:g}": round(r, 4) for one, r in zip(choices, radii, strict=True)}
        self.note(noise=f"{noise.family} {noise.deviation * POOLED:g}", mean_radius_of_noise=tried, loss=last)
        return self.smoothed(network, classes, noise)

    def _asked(self, given: Given) -> torch.Tensor | None:
        """What the service answers to the defender's people: nothing of use, where it names classes alone."""
        if self.access == "labels":
            return None
        rows = own_rows(given.own)
        parts = [given.service.query(given.own.load(rows[i : i + 64])) for i in range(0, len(rows), 64)]
        return torch.cat(parts)

    access: ClassVar[Access] = "probabilities"


DEFENSE = Ducd
