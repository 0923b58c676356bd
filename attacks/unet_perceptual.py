"""U-Net inversion under a perceptual and an identity loss: what it rebuilds is to be recognized, by eye and machine."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import SIZE, AttackCard, AttackerView
from ppfr_bench.metrics.lpips import Lpips

from ._images import resize
from ._inverter import InverterConfig, WarmInverter
from ._network import mixed_precision


class UnetPerceptualConfig(InverterConfig):
    """``warm``: steps of the plain network it starts from; ``perceptual`` and ``identity``: weights beside L1."""

    steps: int = Field(200, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    perceptual: float = Field(0.3, ge=0)
    identity: float = Field(0.1, ge=0)


class UnetPerceptual(WarmInverter):
    """The U-Net attacker with a surrogate recognizer: goes on training under L1 + LPIPS + distance of identity."""

    version = 2
    card = AttackCard(
        title="U-Net inversion, perceptual and identity loss",
        family="reconstruction",
        reference="Johnson et al., Perceptual losses, 2016; with identity loss as in MAP2V and Fantomas-style recovery",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        needs_surrogate=True,
    )
    Config = UnetPerceptualConfig

    def prepare(self, view: AttackerView) -> None:
        """Fetch the two judges."""
        assert view.surrogate is not None, "the card asks for it"
        self._surrogate, self._lpips = view.surrogate, Lpips().network

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """L1 + perceptual * LPIPS + identity * (1 - cosine of the surrogate's embeddings, of every other image)."""
        large, target = (resize(images.clamp(0, 1), SIZE) for images in (answer, clear))
        with mixed_precision():
            seen = self._lpips(large * 2 - 1, target * 2 - 1).float().mean()
            # Half of the batch: backwards through a recognizer costs more than all the rest of the step.
            seen_as, is_really = (self._surrogate(images[::2]).float() for images in (large, target))
        who = 1 - (seen_as * is_really).sum(1).mean()
        total: torch.Tensor = (
            functional.l1_loss(answer, clear) + self.config.perceptual * seen + self.config.identity * who
        )
        return total


ATTACK = UnetPerceptual
