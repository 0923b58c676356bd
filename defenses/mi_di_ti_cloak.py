"""MI-DI-TI: momentum, input diversity and smoothed gradients, so that other recognizers are fooled too."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.cloak.dodging import GradientConfig, apart, mirrored, one_by_one
from ppfr_bench.cloak.library import Diverse, library_attack, torchattack
from ppfr_bench.recognizers.ensemble import ensemble


class MiDiTiConfig(GradientConfig):
    """Parameters beside those of every gradient cloak.

    Attributes:
        decay: of the momentum.
        rate: the smallest size at which a recognizer is shown the image, as a share of 112 pixels.
    """

    decay: float = Field(1.0, ge=0)
    rate: float = Field(0.9, ge=0.5, lt=1)


class MiDiTiCloak(Cloak):
    """Moves the embedding of the surrogate away from the person, by steps that are made to transfer."""

    version = 1
    card = DefenseCard(
        title="MI-DI-TI cloak",
        plain="Adds a change to the photo that people hardly see and that keeps a face recognizer from recognising "
        "the person. It is made so that other recognizers fail as well.",
        family="gradient cloak",
        reference="Dong et al., CVPR 2018 (MI); Xie et al., CVPR 2019 (DI); Dong et al., CVPR 2019 (TI)",
        licence="MIT (torchattack 1.7.2)",
        code_url="https://github.com/spencerwooo/torchattack",
        clear_share=1.0,
        deviations=(
            "It dodges in the embedding of a face recognizer: the loss is 1 - cosine to the mirrored clear image's.",
            "Gradients are smoothed over 7 pixels instead of 15, as a face of 112 pixels is smaller than the papers' "
            "images.",
            "The draws of the input diversity are the same for every image, so that one photograph has one cloak.",
        ),
    )
    Config = MiDiTiConfig

    @property
    def budget(self) -> float:
        return float(self.config.budget) / 255

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(self.config.recognizers)

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same, no pixel further away than the budget."""
        c = self.config
        torchattack()
        network = ensemble(c.recognizers)
        diverse = Diverse(network, c.rate).to(images.device)
        attack = library_attack("MIFGSM", diverse, apart, eps=self.budget, steps=c.steps, decay=c.decay)
        return one_by_one(images, lambda image: attack(image, mirrored(network, image)))


DEFENSE = MiDiTiCloak
