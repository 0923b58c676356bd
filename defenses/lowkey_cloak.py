"""LowKey: an ensemble of recognizers, a smoothed copy of the image, and a penalty on what people see."""

from __future__ import annotations

import torch
from pydantic import Field
from torchvision.transforms.functional import gaussian_blur

from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.cloak.dodging import GradientConfig, apart, mirrored, one_by_one
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.recognizers.ensemble import ensemble

_KERNEL, _SIGMA = 7, 1.0  # Pixels, of the smoothed copy.


class LowKeyConfig(GradientConfig):
    """Parameters beside those of every gradient cloak.

    Attributes:
        budget: largest change of a channel of a pixel, in levels of 255; the penalty decides before it does.
        penalty: weight of LPIPS against the mean 1 - cosine.
    """

    budget: float = Field(16.0, gt=0, le=255)
    recognizers: tuple[str, ...] = Field(("faceplugin", "dlib_resnet"), min_length=1)
    penalty: float = Field(2.0, ge=0)


class LowKeyCloak(Cloak):
    """Moves the embeddings of several recognizers away from the person, also those of a smoothed copy of the image.

    Each signed step also lowers LPIPS to the clear image, which is weighed against the dodging.
    """

    version = 1
    card = DefenseCard(
        title="LowKey-like cloak",
        plain="Adds a change to the photo that people hardly see and that keeps several face recognizers from "
        "recognising the person. It is made to survive smoothing of the photo.",
        family="gradient cloak",
        reference="Cherepanova et al., LowKey: Leveraging Adversarial Attacks to Protect Social Media Users from "
        "Facial Recognition, ICLR 2021",
        licence="MIT (this re-implementation)",
        clear_share=1.0,
        deviations=(
            "The ensemble is two recognizers with gradients instead of four; the papers' weights are not shipped here.",
            "The image and its smoothed copy take turns, step by step, instead of adding up in every step.",
            "It has a budget in levels, which the paper leaves to the penalty, and takes 5 steps instead of 50.",
        ),
    )
    Config = LowKeyConfig

    @property
    def budget(self) -> float:
        return float(self.config.budget) / 255

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(self.config.recognizers)

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same, no pixel further away than the budget."""
        return one_by_one(images, self._one)

    def _one(self, image: torch.Tensor) -> torch.Tensor:
        c, network = self.config, ensemble(self.config.recognizers)
        clear, change = mirrored(network, image), torch.zeros_like(image)
        for step in range(c.steps):
            change.requires_grad_(True)
            shown = (image + change).clamp(0, 1)
            seen = gaussian_blur(shown, [_KERNEL] * 2, [_SIGMA] * 2) if step % 2 else shown
            gain = apart(network(seen), clear)
            if step and c.penalty:  # At the clear image the distance is 0 and has no direction.
                gain = gain - c.penalty * perceptual_distance(shown, image).sum()
            (gradient,) = torch.autograd.grad(gain, change)
            moved = change.detach() + 2.5 * self.budget / c.steps * gradient.sign()
            change = moved.clamp(-self.budget, self.budget)
        return image + change


DEFENSE = LowKeyCloak
