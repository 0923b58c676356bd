"""What attackers who train share: a network that takes a cloak off again, learnt from pairs of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import AttackerView, ByteArray, Config, IntArray, to_bytes, to_float
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.learning.unet import Batch, UNet, train, weights_from
from ppfr_bench.learning.validation import validation_mask

_HELD_OUT = 0.1  # Share of the people who are validated on.
_VALIDATED = 32  # Images at most.
_AVERAGED = 512  # Pairs at most whose mean difference is taken.
_SPAN = 16 / 255  # A mean difference of so much either way fills the channel that it is shown in.
_BATCH = 32


class PurifierConfig(Config):
    """Parameters of a purifier.

    Attributes:
        steps: of training.
        batch: images a step.
        width: channels of the network's first level, a multiple of 8.
        learning_rate: the greatest of a cycle of training.
        perception, identity: weights of LPIPS, and of 1 - cosine on the surrogate, beside L1 in units of 8 levels.
    """

    steps: int = Field(60, ge=1)
    batch: int = Field(8, ge=1)
    width: int = Field(16, ge=8, multiple_of=8)
    learning_rate: float = Field(2e-3, gt=0)
    perception: float = Field(0.5, ge=0)
    identity: float = Field(1.0, ge=0)


class WithMean(nn.Module):
    """A U-Net that is shown the image and what the attacker's pairs differ by on average.

    A pattern that all images bear, such as a key's, is in that average, which no network could see in one image.

    Args:
        mean: float32 (1, 3, h, w), clear less cloaked.
    """

    mean: torch.Tensor

    def __init__(self, network: UNet, mean: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", (mean / (2 * _SPAN) + 0.5).clamp(0, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> what is to be added to them."""
        change: torch.Tensor = self.network(torch.cat([images, self.mean.expand_as(images)], dim=1))
        return change


def new_purifier(view: AttackerView, width: int, generator: torch.Generator) -> nn.Module:
    """A purifier that changes nothing yet, on the current device; it needs the view's pairs."""
    with weights_from(generator):
        network = UNet(6, width)
    return device.to(WithMean(network, _mean_difference(view)))


def train_purifier(
    network: nn.Module, view: AttackerView, config: PurifierConfig, generator: torch.Generator
) -> dict[str, Any]:
    """Train a network to take the cloak off, on nine tenths of the attacker's people; the best weights are left.

    Args:
        network: cloaked images (n, 3, 112, 112) in [0, 1] -> what is to be added, on the current device.
        view: of an aware attacker; with a surrogate, if the identity counts.
        config: of the training.
        generator: draws the people held out and the batches.

    Returns:
        What ``learning.unet.train`` logs, and ``training_images``.
    """
    held_out = validation_mask(view.auxiliary.identities, _HELD_OUT, generator)
    known = np.flatnonzero(~held_out)
    judged = np.flatnonzero(held_out if held_out.any() else ~held_out)[:_VALIDATED]
    teacher = device.to(view.surrogate) if view.surrogate is not None and config.identity else None

    def loss(answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        answer = answer.clamp(0, 1)
        total = (answer - clear).abs().mean() * 255 / 8
        if config.perception:
            total = total + config.perception * perceptual_distance(answer, clear).mean()
        if teacher is not None:
            with torch.no_grad():
                wanted = teacher(clear)
            total = total + config.identity * (1 - (teacher(answer) * wanted).sum(1)).mean()
        return total

    def validate() -> float:
        network.eval()
        with torch.no_grad():
            found = []
            for start in range(0, len(judged), _BATCH):
                cloaked, clear = _pairs(view, judged[start : start + _BATCH])
                found.append(float(loss(cloaked + network(cloaked), clear)))
        return float(np.mean(found))

    batches = _batches(view, known, config.batch, generator)
    log = train(network, batches, config.steps, config.learning_rate, loss, validate)
    return log | {"training_images": len(known)}


def purified(network: nn.Module, released: ByteArray) -> ByteArray:
    """What a purifier makes of cloaked images, uint8 (n, 3, 112, 112) twice."""
    network.eval()
    with torch.no_grad():
        parts = [(part + network(part)).clamp(0, 1) for part in to_float(released).split(_BATCH)]
    return to_bytes(torch.cat(parts))


def _pairs(view: AttackerView, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
    assert view.auxiliary_protected is not None, "an aware attacker is given its cloaked images"
    return to_float(np.asarray(view.auxiliary_protected[rows])), to_float(view.auxiliary.load(rows))


def _mean_difference(view: AttackerView) -> torch.Tensor:
    """Clear less cloaked, the mean over the attacker's pairs, float32 (1, 3, h, w) on the CPU."""
    count = min(len(view.auxiliary), _AVERAGED)
    sums = []
    for start in range(0, count, _BATCH):
        cloaked, clear = _pairs(view, np.arange(start, min(start + _BATCH, count)))
        sums.append((clear - cloaked).sum(0, keepdim=True).cpu())
    return torch.stack(sums).sum(0) / count


def _batches(view: AttackerView, rows: IntArray, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Endless batches of the attacker's pairs, in an order drawn anew every round."""
    while True:
        order = rows[torch.randperm(len(rows), generator=generator).numpy()]
        for start in range(0, max(1, len(order) - size + 1), size):
            cloaked, clear = _pairs(view, order[start : start + size])
            yield cloaked, cloaked, clear
