"""Projected gradient descent on a surrogate recognizer: the plain cloak."""

from __future__ import annotations

import torch

from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.cloak.dodging import GradientConfig, apart, mirrored, one_by_one
from ppfr_bench.cloak.library import library_attack
from ppfr_bench.recognizers.ensemble import ensemble


class PgdCloak(Cloak):
    """Moves the embedding of the surrogate away from the person, by signed steps within the budget.

    The release is the clear image but for a few levels a pixel: no region of it is held back.
    """

    version = 1
    card = DefenseCard(
        title="PGD cloak",
        plain="Adds a change to the photo that people hardly see and that keeps one known face recognizer from "
        "recognising the person.",
        family="gradient cloak",
        reference="Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018",
        licence="MIT (torchattack 1.7.2)",
        code_url="https://github.com/spencerwooo/torchattack",
        clear_share=1.0,
        deviations=(
            "It dodges in the embedding of a face recognizer: the loss is 1 - cosine to the mirrored clear image's.",
            "The random start is the same for every image, so that one photograph has one cloak.",
        ),
    )
    Config = GradientConfig

    @property
    def budget(self) -> float:
        return float(self.config.budget) / 255

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(self.config.recognizers)

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same, no pixel further away than the budget."""
        network = ensemble(self.config.recognizers)
        steps = self.config.steps
        attack = library_attack("PGD", network, apart, eps=self.budget, steps=steps, alpha=2.5 * self.budget / steps)

        return one_by_one(images, lambda image: attack(image, mirrored(network, image)))


DEFENSE = PgdCloak
