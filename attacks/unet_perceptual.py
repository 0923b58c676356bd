"""U-Net inversion under a perceptual and an identity loss, so that people and recognizers know what it rebuilds."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import SIZE, AttackCard, AttackerView
from ppfr_bench.learning.inverter import WarmInverter, WarmInverterConfig
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.resizing import resize


class UnetPerceptualConfig(WarmInverterConfig):
    """``warm``: steps of the plain U-Net it starts from; ``perceptual``, ``identity``: weights beside L1 and SSIM."""

    perceptual: float = Field(0.5, ge=0)
    identity: float = Field(0.3, ge=0)


class UnetPerceptual(WarmInverter):
    """The U-Net attacker with a surrogate recognizer: goes on training with the distance of identity in its loss."""

    version = 5
    card = AttackCard(
        title="U-Net inversion, perceptual and identity loss",
        plain="Trains a neural network to rebuild faces that look right to people and that a face recognizer takes "
        "for the same person, and not only faces with similar pixels.",
        family="reconstruction",
        reference="Johnson et al., Perceptual losses, 2016; with identity loss as in MAP2V and Fantomas-style recovery",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        needs_surrogate=True,
    )
    Config = UnetPerceptualConfig
    answers_apart = False  # It is for what people and recognizers see.

    def prepare(self, view: AttackerView) -> None:
        """Fetch the recognizer of the loss."""
        assert view.surrogate is not None, "the card asks for it"
        self._surrogate = device.to(view.surrogate)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """``unlikeness`` + identity * (1 - cosine of the surrogate's embeddings, of every other image)."""
        # Half of the batch is embedded, as the way back through a recognizer costs more than the rest of the step.
        large, target = (resize(images[::2].clamp(0, 1), SIZE) for images in (answer, clear))
        with device.autocast():
            found, truth = (self._surrogate(images).float() for images in (large, target))
        identity = 1 - (found * truth).sum(1).mean()
        total: torch.Tensor = unlikeness(answer, clear, self.config.perceptual) + self.config.identity * identity
        return total


ATTACK = UnetPerceptual
