"""A recognizer that names nobody: the upper end of robustness, and no utility."""

from __future__ import annotations

import torch
from torch import nn

from ppfr_bench.api import DefenseCard
from ppfr_bench.robustness.api import Given, HardenedClassifier, Hardening, WhiteBox
from ppfr_bench.robustness.networks import SIDE
from ppfr_bench.robustness.smoothing import Noise


class _Silent(nn.Module):
    logits: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        nothing: torch.Tensor = self.logits + 0 * images.mean((1, 2, 3))[:, None]
        return nothing


class AlwaysAbstains(Hardening):
    """Gives all people the same probability, so that no decision is made. No attack may change one."""

    version = 1
    card = DefenseCard(
        title="Always abstains",
        plain="A recognizer that never names anybody. It marks the best possible robustness and the worst possible "
        "usefulness.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )

    def network(self, classes: int, white_box: WhiteBox | None) -> nn.Module:
        """Zeros, whatever the image."""
        return _Silent(classes)

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Nothing is learnt, and nothing asked."""
        return HardenedClassifier(_Silent(given.service.classes), given.service.classes, Noise("none"), SIDE)


DEFENSE = AlwaysAbstains
