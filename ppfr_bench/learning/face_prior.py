"""A generative model of aligned photographs of faces, which an attacker has who has photographs of other people."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from ppfr_bench import device

SIDE = 64  # The model knows faces of so many pixels a side.
SPREAD = 0.5  # Standard deviation of its images, which are in [-1, 1].
WEIGHTS = Path(__file__).with_suffix(".safetensors")
NOT_FOR = ("cfp",)  # Data sets that measure people whose photographs it was trained on.
WIDTHS = (64, 128, 192)  # Channels at 32, 16 and 8 places a side.
_DOWN, _UP = (1, 1, 2), (1, 2)  # Blocks at each of these, on the way down and up.
_UNSHUFFLE = 2  # Blocks of so many pixels a side enter as channels.
_NOISE_FEATURES = 64
_UNSEEN = 5  # One person of so many is not in the training data.


class _Residual(nn.Module):
    """Two convolutions, scaled and shifted by what is known of the noise; the identity before training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.norm = nn.GroupNorm(8, width)
        self.noise = nn.Linear(2 * _NOISE_FEATURES, 2 * width)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        scale, shift = self.noise(noise)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm(self.first(features)) * (1 + scale) + shift
        found: torch.Tensor = features + self.last(functional.silu(inner))
        return found


class _Attention(nn.Module):
    """Every place looks at every other, in heads of 32 channels; the identity before training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 32
        self.norm = nn.GroupNorm(8, width)
        self.read = nn.Conv2d(width, 3 * width, 1)
        self.write = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.write.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        n, width, height, across = features.shape
        parts = self.read(self.norm(features)).reshape(n, 3, self.heads, 32, height * across)
        query, key, value = parts.transpose(-1, -2).unbind(1)
        found = functional.scaled_dot_product_attention(query, key, value)
        written: torch.Tensor = self.write(found.transpose(-1, -2).reshape(n, width, height, across))
        return features + written


class _Blocks(nn.ModuleList):
    """So many blocks, one after the other."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__(_Residual(width) for _ in range(count))

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        for block in self:
            features = block(features, noise)
        return features


class FacePrior(nn.Module):
    """A denoiser: the face that is expected behind Gaussian noise of known strength, of which samples can be made.

    It is preconditioned, so that at little noise it answers with what it is given, and at much with what it knows of
    faces. Source: Karras, Aittala, Aila and Laine, Elucidating the design space of diffusion models, NeurIPS 2022.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noise = nn.Sequential(nn.Linear(2 * _NOISE_FEATURES, 2 * _NOISE_FEATURES), nn.SiLU())
        self.enter = nn.Conv2d(3 * _UNSHUFFLE**2, WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(_Blocks(width, count) for width, count in zip(WIDTHS, _DOWN, strict=True))
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(WIDTHS))
        self.deepest = _Attention(WIDTHS[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(WIDTHS))
        self.up = nn.ModuleList(_Blocks(width, count) for width, count in zip(WIDTHS[:-1], _UP, strict=True))
        last = nn.Conv2d(WIDTHS[0], 3 * _UNSHUFFLE**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.out = nn.Sequential(nn.GroupNorm(8, WIDTHS[0]), nn.SiLU(), last)

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Denoise.

        Args:
            noisy: float32 (n, 3, 64, 64), faces in [-1, 1] and noise.
            sigma: float32 (n,), the noise's standard deviation, greater than 0.

        Returns:
            float32 (n, 3, 64, 64), in about [-1, 1].
        """
        skip, gain = preconditioning(sigma)
        return skip * noisy + gain * self.residual(noisy, sigma)

    def residual(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """What is learnt: the face less its part of the input, in units of its spread given the input."""
        with device.autocast():
            scaled = noisy / (sigma.square() + SPREAD**2).sqrt()[:, None, None, None]
            found: torch.Tensor = self._network(scaled, sigma.log() / 4)
        return found.float()

    def _network(self, images: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        rates = torch.exp(torch.linspace(0, math.log(100.0), _NOISE_FEATURES, device=level.device))
        waves = level[:, None] * rates
        noise = self.noise(torch.cat([waves.cos(), waves.sin()], dim=1))
        squares = functional.pixel_unshuffle(images, _UNSHUFFLE).contiguous(memory_format=torch.channels_last)
        features = self.down[0](self.enter(squares), noise)
        skips = [features]
        for widen, blocks in zip(self.widen, self.down[1:], strict=True):
            features = blocks(widen(functional.avg_pool2d(features, 2)), noise)
            skips.append(features)
        features = self.deepest(features)
        for narrow, blocks, skip in reversed(list(zip(self.narrow, self.up, skips[:-1], strict=True))):
            features = blocks(functional.interpolate(narrow(features), scale_factor=2.0) + skip, noise)
        return functional.pixel_shuffle(self.out(features), _UNSHUFFLE)


def preconditioning(sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of the input and of what is learnt in the answer: sigma (n,) -> (n, 1, 1, 1) twice."""
    sigma = sigma[:, None, None, None]
    total = sigma.square() + SPREAD**2
    return SPREAD**2 / total, sigma * SPREAD / total.sqrt()


def unseen_people(names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whose photographs the model was not trained on, of those data sets that it was trained on.

    Args:
        names: of n images, such as ``images/NAME/NAME_0001.jpg``: the folder is the person.

    Returns:
        bool (n,). It depends on the person's name alone, so that it holds for every choice of images.
    """
    digests = [hashlib.sha256(name.split("/")[-2].encode()).digest() if "/" in name else b"\0" for name in names]
    return np.array([digest[0] % _UNSEEN == 0 for digest in digests], dtype=np.bool_)


@device.per_device
def face_prior() -> FacePrior:
    """The model as it ships, its weights frozen."""
    network = FacePrior()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
