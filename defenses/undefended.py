"""The bare service: the upper end of utility, and of every attack on a recognizer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ppfr_bench.api import DefenseCard
from ppfr_bench.robustness.api import Access, Given, HardenedClassifier, Hardening, WhiteBox
from ppfr_bench.robustness.smoothing import Noise


class Undefended(Hardening):
    """The service's own network, without noise. Its decisions are certified at radius 0 alone."""

    version = 1
    card = DefenseCard(
        title="Undefended",
        plain="The recognition service as it is, without any protection. It marks the best possible usefulness, and"
        " what every attack reaches.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )
    access: ClassVar[Access] = "white_box"

    def network(self, classes: int, white_box: WhiteBox | None) -> nn.Module:
        """The service's."""
        assert white_box is not None, "its access is that of the white box"
        return white_box.network

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Nothing is changed."""
        return HardenedClassifier(
            self.network(given.service.classes, given.white_box), given.service.classes, Noise("none")
        )


DEFENSE = Undefended
