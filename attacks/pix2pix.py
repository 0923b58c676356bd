"""pix2pix inversion: a conditional GAN rebuilds the face."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench.api import AttackCard, AttackerView
from ppfr_bench.metrics.lpips import Lpips

from ._inverter import InverterConfig, WarmInverter
from ._network import UNet, mixed_precision


class Pix2pixConfig(InverterConfig):
    """``warm``: steps of the plain network it starts from; ``l1``: weight of L1 beside the discriminator's."""

    steps: int = Field(200, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    l1: float = Field(50.0, ge=0)


class Pix2pix(WarmInverter):
    """The U-Net attacker with a discriminator of patches: prefers a sharp guess to a blurred mean."""

    version = 1
    card = AttackCard(
        title="pix2pix inversion",
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

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The plain network, and a discriminator with weights from the generator."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
            self._judge = _discriminator().to(memory_format=torch.channels_last)
        self._learning = torch.optim.Adam(self._judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
        return super().start(view, generator)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """l1 * L1 + what the discriminator, trained on the same batch first, holds against it."""
        distance = functional.l1_loss(answer, clear)
        with mixed_precision():
            real, false = self._judge(clear), self._judge(answer.detach())
        wrong = (real.float() - 1).square().mean() + false.float().square().mean()
        self._learning.zero_grad(set_to_none=True)
        wrong.backward()
        self._learning.step()
        with mixed_precision():
            verdict = self._judge(answer)
        total: torch.Tensor = self.config.l1 * distance + (verdict.float() - 1).square().mean()
        return total

    def prepare(self, view: AttackerView) -> None:
        """Fetch what chooses the weights."""
        self._lpips = Lpips().network

    def verdict(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """LPIPS: by L1 no sharp guess beats the blurred mean that it started from."""
        distance: torch.Tensor = self._lpips(answer * 2 - 1, clear * 2 - 1).mean()
        return distance


def _discriminator() -> nn.Sequential:
    """Patches of 22 pixels at a working size of 64."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1), nn.GroupNorm(8, 64), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, 1, 1),
    )  # fmt: skip


ATTACK = Pix2pix
