"""How the face renderer learns: from embeddings of one photo, to draw another one that recognizers read as the person.

It learns to draw *another* photo of the person whose embeddings it is given, so that nothing pulls it towards the light
or the background of the photo that was read, and to be read by both recognizers as the person, under changes of
its own. Half of each batch are mixtures of two people, of whom there is no photo: recognition alone teaches them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Config, Differentiable, Faces, per_image_generators, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import weights_from
from ppfr_bench.recognizers import load_recognizer

from ._filters import gaussian
from ._recognition_losses import as_seen, confusion
from ._renderer_network import CARRIER_SIDE, CARRIERS, DETAIL, DIMENSION, PARTS, RECOGNIZERS, RendererNetwork, read


class RendererTrainingConfig(Config):
    """``batch`` photos of different people a step, and as many mixtures.

    ``cycle``: steps in which the learning rate falls to zero; then it starts again at half of where it had started.
    ``like``: weight of being unlike another photo of the person; ``match``: of confusion between people;
    ``noise``: standard deviation of what is added to embeddings that are mixed, as a share of their length;
    ``auxiliary``: the recognizer that is read beside the surrogate.
    """

    steps: int = Field(3000, ge=1)
    cycle: int = Field(1500, ge=1)
    batch: int = Field(8, ge=2)
    width: int = Field(24, ge=8, multiple_of=8)
    learning_rate: float = Field(2e-3, gt=0)
    like: float = Field(0.5, ge=0)
    match: float = Field(0.25, ge=0)
    noise: float = Field(0.3, ge=0)
    auxiliary: str = "dlib_resnet"


class RendererTraining:
    """Recognition by both surrogates, confusion between people, and likeness to another photo of the person."""

    Config = RendererTrainingConfig
    data: ClassVar[dict[str, Any]] = {"defender_identities": 2000, "defender_images": 2}

    def __init__(self, config: RendererTrainingConfig, faces: Faces, surrogate: nn.Module, seed: int) -> None:
        auxiliary = load_recognizer(config.auxiliary)
        if not isinstance(auxiliary, Differentiable):
            raise UserError(f"the recognizer '{config.auxiliary}' has no gradients", "Choose dlib_resnet.")
        self.config, self.seed, self.faces = config, seed, faces
        self.recognizers = [device.to(one.eval()) for one in (surrogate, auxiliary.differentiable())]
        parts = []
        with torch.no_grad():
            for batch in faces.batches(32):
                parts.append(read(self.recognizers, to_float(batch)))
        self.embedded = torch.cat(parts)
        if self.embedded.shape[1] != DIMENSION:
            raise UserError(
                f"the renderer reads {' and '.join(RECOGNIZERS)}, {DIMENSION} numbers, and these two give "
                f"{self.embedded.shape[1]}",
                "Leave --surrogate and --set auxiliary away.",
            )
        people, starts = np.unique(faces.identities, return_inverse=True)
        self.photos = [np.flatnonzero(starts == i) for i in range(len(people))]
        with weights_from(torch.Generator().manual_seed(seed)):
            self.network = device.to(RendererNetwork(config.width).to(memory_format=torch.channels_last))
        self.network.center.copy_(self.embedded.mean(0))
        self.embedded = self.network.person(self.embedded)
        self._fit_carriers()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))

    @property
    def steps(self) -> int:
        """Of the optimizer."""
        return self.config.steps

    def step(self, number: int) -> dict[str, float]:
        """One step, its randomness from the seed and its number alone."""
        draw, c = torch.Generator().manual_seed(self.seed * 1_000_003 + number), self.config
        chosen = torch.randperm(len(self.photos), generator=draw)[: 2 * c.batch].tolist()
        rows = [self.photos[i][torch.randperm(len(self.photos[i]), generator=draw)[:2].numpy()] for i in chosen]
        shown, others = (np.array([pair[k % len(pair)] for pair in rows]) for k in (0, 1))
        one, two = self.embedded[shown].chunk(2)
        mixed = self._mixed(one, two, draw)
        asked = torch.cat([one, mixed])
        with device.autocast():
            detail = self.network.detail(asked)
        images = self.network.compose(detail, self.network.draw(per_image_generators(draw, len(asked))))
        seen = self.network.person(read(self.recognizers, as_seen(images, draw, noise=0.03)))
        # The first half is to be read as another photo of the same person is, as well as it can be.
        cosines = [(a * b).sum(1) for a, b in zip(seen.split(PARTS, 1), asked.split(PARTS, 1), strict=True)]
        confused = torch.stack(
            [confusion(a, b) for a, b in zip(seen.split(PARTS, 1), asked.split(PARTS, 1), strict=True)]
        ).mean()
        wanted = to_float(self.faces.load(others[: c.batch]))
        unlike = unlikeness((gaussian(wanted, DETAIL) + detail[: c.batch]).clamp(0, 1), wanted)
        loss = sum((1 - cosine).mean() for cosine in cosines) / 2 + c.match * confused + c.like * unlike
        cycle, at = divmod(number, c.cycle)
        rate = min(1.0, at / 50 + 0.02) * 0.5 ** (cycle + 1) * (1 + math.cos(math.pi * at / c.cycle))
        for group in self.optimizer.param_groups:
            group["lr"] = c.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        values = {name: cosine.detach().mean() for name, cosine in zip(RECOGNIZERS, cosines, strict=True)}
        values |= {"confused": confused.detach(), "unlike": unlike.detach()}
        return {name: float(value) for name, value in values.items()}

    def weights(self) -> dict[str, torch.Tensor]:
        """What the defense loads, in half precision."""
        return {name: tensor.detach().cpu().half() for name, tensor in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _mixed(self, one: torch.Tensor, two: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """People between two people, each recognizer's part of length 1 again."""
        share = device.draw(torch.rand, draw, len(one), 1, like=one)
        between = share * one + (1 - share) * two
        parts = []
        for part in between.split(PARTS, 1):
            noise = device.draw(torch.randn, draw, *part.shape, like=part) / part.shape[1] ** 0.5
            parts.append(functional.normalize(functional.normalize(part, dim=1) + self.config.noise * noise, dim=1))
        return torch.cat(parts, 1)

    def _fit_carriers(self) -> None:
        """Mean and main directions of the low frequencies of photos: of a crowd."""
        small = []
        for batch in self.faces.batches(256):
            low = gaussian(to_float(batch), DETAIL)
            small.append(resize(low, CARRIER_SIDE).flatten(1))
        rows = torch.cat(small)
        mean = rows.mean(0)
        # The CPU decomposes, as another device may turn the sign of a direction.
        _, lengths, directions = torch.linalg.svd((rows - mean).cpu(), full_matrices=False)
        basis = directions[:CARRIERS] * lengths[:CARRIERS, None] / len(rows) ** 0.5
        self.network.carrier_mean.copy_(mean.reshape(self.network.carrier_mean.shape))
        self.network.carrier_basis.copy_(basis.reshape(self.network.carrier_basis.shape))
