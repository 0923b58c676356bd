"""Randomized smoothing with Gaussian noise, by whoever runs the service: the white-box control of DUCD."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import DefenseCard, to_float
from ppfr_bench.robustness.api import Access, Given, HardenedClassifier
from ppfr_bench.robustness.distilling import learn_faces, small_images, train
from ppfr_bench.robustness.smoothing import Noise

from ._surrogate import POOLED, SMALL, Surrogate, SurrogateConfig, new_network

_LOGITS = 0.5  # Share of the loss that pulls to the service's own logits, beside the true names.


class GaussianSmoothingConfig(SurrogateConfig):
    """``deviation`` of the noise on the whole image."""

    deviation: float = Field(1.0, gt=0)


class GaussianSmoothing(Surrogate):
    """Knows the service's network and its training photos with their true names, and trains under the noise it adds."""

    version = 1
    card = DefenseCard(
        title="Gaussian smoothing (white box)",
        plain="Trains a recognizer under random noise, with full access to the recognition service and its training"
        " photos. The noise makes it possible to prove for many photos that no small change alters the "
        "decision.",
        family="model defense",
        reference="Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, ICML 2019",
        code_url="https://github.com/locuslab/smoothing",
        licence="MIT",
        learned=True,
        training_data="the service's training photos and its logits on them; at most 2,000 images of the defender's "
        "people and who is on them",
        deviations=(
            SMALL + " The service's own network is not smoothed: it is trained anew in small, with its logits as well "
            "as the true names.",
        ),
    )
    Config = GaussianSmoothingConfig
    access: ClassVar[Access] = "white_box"

    def harden(self, given: Given, generator: torch.Generator) -> HardenedClassifier:
        """Learn faces, then the service's training photos, under the noise."""
        assert given.white_box is not None, "its access is that of the white box"
        config, classes = self.config, given.service.classes
        noise = Noise("gaussian", config.deviation / POOLED)
        network = new_network(classes, config.width, generator)
        learn_faces(network, given.own, small_images(given.own), config.steps, lambda: noise, generator)
        photos, names = given.white_box.photos, device.to(torch.from_numpy(given.white_box.labels))
        with torch.no_grad():
            parts = [given.white_box.network(to_float(photos[i : i + 32])) for i in range(0, len(photos), 32)]
        soft = (torch.cat(parts).float() / 4).softmax(1)

        def loss(net: nn.Module, noisy: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            at = rows.to(noisy.device)
            with device.autocast():
                logits = net(noisy)
            named = functional.cross_entropy(logits.float(), names[at])
            return named + _LOGITS * functional.cross_entropy(logits.float() / 4, soft[at])

        last = train(network, small_images(photos), loss, 2 * (config.steps // 3), noise, generator, 1e-3)
        self.note(noise=f"gaussian {config.deviation:g}", loss=last)
        return self.smoothed(network, classes, noise)


DEFENSE = GaussianSmoothing
