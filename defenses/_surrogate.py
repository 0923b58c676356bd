"""What rows of the robustness track that train a small network of their own have in common."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import nn

from ppfr_bench.api import SIZE, Config
from ppfr_bench.robustness.api import HardenedClassifier, Hardening, WhiteBox
from ppfr_bench.robustness.networks import SIDE, SmallNetwork
from ppfr_bench.robustness.smoothing import Noise

POOLED = SIZE // SIDE  # Noise on the averaged image is so many times smaller than noise on the image itself.
DRAWS = 100  # Votes of a decision.
SMALL = (
    "The hardened recognizer is a network of 0.2 million weights that looks at 56x56 pixels, so that a thousand noisy "
    "looks at a photo take a second."
)


class SurrogateConfig(Config):
    """``steps`` of learning faces from other people, and as many two thirds again from the service's answers."""

    steps: int = Field(300, ge=2)
    width: int = Field(16, ge=4)


def new_network(classes: int, width: int, generator: torch.Generator) -> SmallNetwork:
    """With weights drawn from the generator."""
    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNetwork(classes, width)


class Surrogate(Hardening):
    """A small network under noise."""

    def network(self, classes: int, white_box: WhiteBox | None) -> nn.Module:
        """See ``SmallNetwork``."""
        return SmallNetwork(classes, self.config.width)

    def smoothed(self, network: nn.Module, classes: int, noise: Noise) -> HardenedClassifier:
        """Decisions by votes under that noise."""
        return HardenedClassifier(network, classes, noise, SIDE, DRAWS)

    def note(self, **found: Any) -> None:
        """For the record."""
        self.log |= {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
