"""pix2pix inversion: a conditional GAN rebuilds the face."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import SIZE, AttackCard, AttackerView
from ppfr_bench.learning.inverter import WarmInverter, WarmInverterConfig
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import UNet, weights_from
from ppfr_bench.metrics.lpips import Lpips


class Pix2pixConfig(WarmInverterConfig):
    """``warm``: steps of the plain U-Net it starts from; ``likeness``: weight of L1, SSIM and LPIPS
    together, beside the discriminator's loss.
    """

    learning_rate: float = Field(5e-4, gt=0)
    likeness: float = Field(10.0, ge=0)


class Pix2pix(WarmInverter):
    """The U-Net attacker with a discriminator of patches: prefers a sharp guess to a blurred mean."""

    version = 5
    card = AttackCard(
        title="pix2pix inversion",
        plain="Trains a neural network to rebuild the face. A second network rejects pictures that do not look "
        "real, so the answers are sharp rather than blurred.",
        family="reconstruction",
        reference="Isola et al., Image-to-image translation with conditional adversarial networks, CVPR 2017",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        deviations=(
            "Starts from the trained U-Net; least-squares GAN loss; the discriminator sees the answer, not the input.",
        ),
    )
    Config = Pix2pixConfig
    answers_apart = False  # It is for what people and recognizers see.

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The plain U-Net, and a discriminator with weights from the generator."""
        with weights_from(generator):
            discriminator = _discriminator().to(memory_format=torch.channels_last)
        self._discriminator = device.to(discriminator)
        self._optimizer = torch.optim.Adam(self._discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        return super().start(view, generator)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """likeness * ``unlikeness`` + the discriminator's least-squares loss; it learns from the same batch first."""
        distance = unlikeness(answer, clear)
        with device.autocast():
            real, false = self._discriminator(clear), self._discriminator(answer.detach())
        wrong = (real.float() - 1).square().mean() + false.float().square().mean()
        self._optimizer.zero_grad(set_to_none=True)
        wrong.backward()
        self._optimizer.step()
        with device.autocast():
            found = self._discriminator(answer)
        total: torch.Tensor = self.config.likeness * distance + (found.float() - 1).square().mean()
        return total

    def prepare(self, view: AttackerView) -> None:
        """Fetch the network that chooses the weights."""
        self._lpips = device.to(Lpips().network)

    def validation_loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """LPIPS at the size that is judged: by L1 no sharp guess beats a blurred mean."""
        large, wanted = (resize(images.clamp(0, 1), SIZE) for images in (answer, clear))
        distance: torch.Tensor = self._lpips(large * 2 - 1, wanted * 2 - 1).mean()
        return distance


def _discriminator() -> nn.Sequential:
    """Patches of 22 pixels at a working size of 64."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1), nn.GroupNorm(8, 64), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, 1, 1),
    )  # fmt: skip


ATTACK = Pix2pix
