"""Adversarial training: a surrogate that learns on the photos that are worst for it within an l2 ball."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import DefenseCard
from ppfr_bench.robustness.api import Given, HardenedClassifier
from ppfr_bench.robustness.distilling import learn_faces, small_images, train
from ppfr_bench.robustness.networks import SIDE
from ppfr_bench.robustness.smoothing import Noise

from ._surrogate import POOLED, SMALL, Surrogate, SurrogateConfig, new_network


class AdversarialTrainingConfig(SurrogateConfig):
    """``radius``: l2 norm, on the whole image, of the changes it learns on; ``inner``: steps by which each is found."""

    radius: float = Field(1.0, gt=0)
    inner: int = Field(3, ge=1)


class AdversarialTraining(Surrogate):
    """Learns the names that the service gives, on photos changed by gradient descent. Nothing is certified."""

    version = 1
    card = DefenseCard(
        title="Adversarial training",
        plain="Trains a face recognizer on photos that were changed on purpose to fool it, so that small changes to"
        " a photo are less likely to fool it later.",
        family="model defense",
        reference="Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018",
        code_url="https://github.com/MadryLab/robustness",
        licence="MIT",
        learned=True,
        training_data="the names that the service gives photos of the enrolled people that it was not trained on; at "
        "most 2,000 images of the defender's people and who is on them",
        deviations=(
            SMALL,
            "The inner maximisation takes three steps in the l2 ball, and only while the service's names are learnt.",
        ),
    )
    Config = AdversarialTrainingConfig

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Learn faces, then the service's answers on changed photos."""
        config, classes, none = self.config, given.service.classes, Noise("none")
        network = new_network(classes, config.width, generator)
        learn_faces(network, given.own, small_images(given.own), config.steps, lambda: none, generator)
        parts = [given.service.query(given.photos[i : i + 64]) for i in range(0, len(given.photos), 64)]
        names = device.to(torch.cat(parts).argmax(1))

        def loss(net: nn.Module, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            at = names[rows.to(images.device)]
            changed = self._worst(net, images, at)
            with device.autocast():
                logits = net(changed)
            return functional.cross_entropy(logits.float(), at)

        last = train(network, small_images(given.photos), loss, 2 * (config.steps // 3), none, generator, 1e-3)
        self.note(loss=last)
        return HardenedClassifier(network, classes, none, SIDE)

    def _worst(self, net: nn.Module, images: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
        """The images, changed by ascent on the loss; on the averaged image the ball is smaller."""
        radius, step = self.config.radius / POOLED, 2.5 * self.config.radius / POOLED / self.config.inner
        change = torch.zeros_like(images)
        for _ in range(self.config.inner):
            change.requires_grad_(True)
            with device.autocast():
                logits = net(images + change)
            (slope,) = torch.autograd.grad(functional.cross_entropy(logits.float(), names), change)
            change = change.detach() + step * slope / _lengths(slope)
            change = change * (radius / _lengths(change)).clamp(max=1)
        return (images + change).detach()


def _lengths(values: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return found


DEFENSE = AdversarialTraining
