"""How the reference defense learns: its generator against an inverter and a linker that train on what it releases.

Only the defender's synthetic identities and one surrogate recognizer take part. The game is played over all strengths
at once: each step draws one, and the weight of privacy grows with it, so that the dial becomes a curve of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, Faces, IntArray, per_image_generators, to_float
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import UNet

from ._local_generator import CARRIERS, LocalGenerator, local_bands
from ._recognition_losses import as_seen, confusion

_SIDE = 64  # The inverter works at this side, in pixels.
_SCALES = (1, 2, 4)  # Likeness is measured on means over so many pixels a side.


class TrainingConfig(Config):
    """``privacy``: weight of the inverter's success at strength 0, 1/2 and 1 by powers of ``span``; 0 turns a part off.

    ``people`` of two photographs a step, each released ``shots`` times; ``drills`` steps of the attackers, on people of
    their own, to one of the generator; ``warm`` steps of the inverter alone before; ``width``: channels of the
    inverter's first level.
    """

    steps: int = Field(400, ge=1)
    warm: int = Field(100, ge=0)
    people: int = Field(8, ge=2)
    shots: int = Field(8, ge=1)
    drills: int = Field(2, ge=1)
    width: int = Field(16, ge=8, multiple_of=8)
    learning_rate: float = Field(0.05, gt=0)
    privacy: float = Field(1.0, ge=0)
    span: float = Field(10.0, ge=1)
    match: float = Field(0.5, ge=0)
    link: float = Field(0.1, ge=0)
    smoothness: float = Field(0.02, ge=0)
    injection: bool = True
    disruption: bool = True


class AnonymizerTraining:
    """Alternating steps: inverter and linker learn from fresh releases, then the generator answers.

    The generator loses 1 - cosine to the clear face and confusion between people, on the surrogate under shifts, blur
    and light of its own; it gains what the inverter misses, but not beyond a mean face: making one inverter absurd
    would be no privacy.
    """

    Config = TrainingConfig

    def __init__(self, config: TrainingConfig, faces: Faces, surrogate: nn.Module, seed: int) -> None:
        self.config, self.seed, self.surrogate = config, seed, device.to(surrogate)
        images = to_float(np.concatenate(list(faces.batches(256))))
        with torch.no_grad():
            self.bands = torch.cat([local_bands(part).half() for part in images.split(64)])
            self.small = torch.cat([resize(part, _SIDE) for part in images.split(64)])
            self.embedded = torch.cat([self.surrogate(part) for part in images.split(32)])
        people, starts = np.unique(faces.identities, return_inverse=True)
        self.photos: list[IntArray] = [np.flatnonzero(starts == i) for i in range(len(people))]
        self.mean = self.small.mean(0, keepdim=True)
        self.floor = float(
            torch.cat([_unlike(self.mean.expand_as(part), part) for part in self.small.split(256)]).mean()
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # Weights are drawn on the CPU: the same ones everywhere.
            self.generator = device.to(LocalGenerator())
            self.inverter = device.to(UNet(6, config.width).to(memory_format=torch.channels_last))
            self.linker = device.to(nn.Linear(self.embedded.shape[1], self.embedded.shape[1]))
        if config.disruption:
            _fit_carriers(self.generator, self.small, faces.identities)
        nn.init.eye_(self.linker.weight)
        rates = ((self.generator, config.learning_rate), (self.inverter, 1e-3), (self.linker, 1e-3))
        self.optimizers = [torch.optim.Adam(module.parameters(), lr=rate, betas=(0.8, 0.99)) for module, rate in rates]

    @property
    def steps(self) -> int:
        """The inverter's own, then those of the game."""
        return self.config.warm + self.config.steps

    def step(self, number: int) -> dict[str, float]:
        """One step, its randomness from the seed and its number alone: what is resumed goes on as if never stopped."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        mine = number - self.config.warm  # Below 0 only the inverter learns.
        strength = float(torch.rand(1, generator=draw))
        for left in reversed(range(self.config.drills if mine >= 0 else 1)):
            rows = self._pick(draw)
            with torch.set_grad_enabled(mine >= 0 and not left):  # The generator answers to the last of them.
                releases = self._release(rows, strength, draw)
            learnt = self._teach_attackers(rows, [release.detach() for release in releases], mine >= 0)
        if mine < 0:
            return learnt
        answer = self.inverter(_observed(releases)) + self.mean
        unlike = _unlike(answer, self.small[rows]).mean()
        leaked = (1 - unlike / self.floor).clamp_min(0)
        shown = [as_seen(release, draw, mirroring=True) for release in releases[:2]]
        seen = [self.surrogate(images) for images in shown]
        who = torch.stack([1 - (part * self.embedded[rows]).sum(1).mean() for part in seen]).mean()
        confused = confusion(seen[0][0::2], seen[-1][1::2])
        linked = (functional.normalize(self.linker(seen[0]), dim=1) * self.embedded[rows]).sum(1).mean()
        c = self.config
        weight = c.privacy * c.span ** (2 * strength - 1)
        maps = (self.generator.gates, self.generator.noise)
        rough = sum(((one - one.roll(1, axis)) ** 2).mean() for one in maps for axis in (2, 3))
        loss = who + c.match * confused + weight * leaked + c.link * weight * linked + c.smoothness * rough
        self._move(0, loss, 0.5 * (1 + math.cos(math.pi * min(1.0, mine / c.steps))))
        values = {"who": who, "confused": confused, "leaked": leaked, "linked": linked}
        return learnt | {"strength": strength} | {name: float(value.detach()) for name, value in values.items()}

    def weights(self) -> dict[str, torch.Tensor]:
        """What ships, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.generator.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        modules = (self.generator, self.inverter, self.linker)
        return {"modules": [module.state_dict() for module in modules],
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        for module, kept in zip((self.generator, self.inverter, self.linker), state["modules"], strict=True):
            module.load_state_dict(kept)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def _pick(self, draw: torch.Generator) -> torch.Tensor:
        """Two photographs each of some people, one after the other."""
        chosen = torch.randperm(len(self.photos), generator=draw)[: self.config.people].tolist()
        pairs = [self.photos[i][torch.randperm(len(self.photos[i]), generator=draw)[:2].numpy()] for i in chosen]
        return device.to(torch.from_numpy(np.concatenate(pairs)))

    def _release(self, rows: torch.Tensor, strength: float, draw: torch.Generator) -> list[torch.Tensor]:
        bands, shots = self.bands[rows].float(), []
        for _ in range(self.config.shots):
            drawn = self.generator.draw(SIZE, SIZE, per_image_generators(draw, len(rows)))
            if not self.config.injection:
                drawn = {name: torch.zeros_like(tensor) for name, tensor in drawn.items()}
            shots.append(self.generator.compose(bands, drawn, strength))
        return shots

    def _teach_attackers(self, rows: torch.Tensor, releases: list[torch.Tensor], linker: bool) -> dict[str, float]:
        answer = self.inverter(_observed(releases)) + self.mean
        missed = _unlike(answer, self.small[rows]).mean()
        self._move(1, missed)
        learnt = {"missed": float(missed.detach())}
        if linker and self.config.link:
            with torch.no_grad():
                seen = self.surrogate(releases[0])
            apart = 1 - (functional.normalize(self.linker(seen), dim=1) * self.embedded[rows]).sum(1).mean()
            self._move(2, apart)
        return learnt

    def _move(self, which: int, loss: torch.Tensor, share: float = 1.0) -> None:
        optimizer = self.optimizers[which]
        for other in self.optimizers:
            other.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            group["initial_lr"] = group.get("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * share
        optimizer.step()


def _observed(releases: list[torch.Tensor]) -> torch.Tensor:
    """What several releases of each image show: their mean and spread, (n, 6, 64, 64)."""
    shots = torch.stack([resize(release, _SIDE) for release in releases])
    spread = shots.std(0) if len(shots) > 1 else torch.zeros_like(shots[0])
    return torch.cat([shots.mean(0), spread], dim=1).contiguous(memory_format=torch.channels_last)


def _unlike(answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """(n, 3, s, s) twice -> (n,): mean absolute difference plus 1 - structural likeness, over three scales."""
    total = (answer - clear).abs().mean((1, 2, 3))
    for scale in _SCALES:
        a, b = (functional.avg_pool2d(images, scale) if scale > 1 else images for images in (answer, clear))
        total = total + (1 - _structure(a, b)) / len(_SCALES)
    return total


def _structure(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004) with a flat window of 7 pixels, (n,)."""
    ma, mb, aa, bb, ab = (functional.avg_pool2d(product, 7, 1) for product in (a, b, a * a, b * b, a * b))
    va, vb, cov = aa - ma * ma, bb - mb * mb, ab - ma * mb
    value = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))
    return value.mean((1, 2, 3))


def _fit_carriers(generator: LocalGenerator, small: torch.Tensor, identities: IntArray) -> None:
    """Mean and main directions of the low frequencies of the people's mean faces: of a crowd, and of nobody in it."""
    people = np.unique(identities)
    grid = generator.carrier_mean.shape[-1]
    means = torch.stack([small[device.to(torch.from_numpy(identities == person))].mean(0) for person in people])
    low = functional.interpolate(means, size=(grid, grid), mode="bilinear", antialias=True).flatten(1)
    mean = low.mean(0)
    # The CPU decomposes, as another device may turn the sign of a direction.
    _, lengths, directions = torch.linalg.svd((low - mean).cpu(), full_matrices=False)
    basis = directions[:CARRIERS] * lengths[:CARRIERS, None] / len(people) ** 0.5
    generator.carrier_mean.copy_(mean.reshape(generator.carrier_mean.shape))
    generator.carrier_basis[: len(basis)].copy_(basis.reshape(-1, *generator.carrier_basis.shape[1:]))
