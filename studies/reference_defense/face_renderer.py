"""A face that is drawn from what two recognizers read of a photo, and from nothing else of it.

The other design for the reference defense, beside its gated bands of local features: the release is a function of two
embeddings and of random draws, so that no attack can rebuild more of the photo than these embeddings hold.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, Defense, DefenseCard, Differentiable, Randomness, per_image_generators
from ppfr_bench.learning.unet import weights_from
from ppfr_bench.recognizers import load_recognizer

filters = import_module("ppfr_bench.defenses._filters")
draws = import_module("ppfr_bench.defenses._draws")

WEIGHTS = Path(__file__).with_suffix(".safetensors")
RECOGNIZERS = ("faceplugin", "dlib_resnet")
PARTS = (512, 128)  # Numbers of each one's embedding.
DIMENSION = sum(PARTS)
CARRIERS, CARRIER_SIDE = 16, 14  # Random light, colour and background: directions, and their side.
DETAIL = 8.0  # The network draws detail finer than this (sigma, in pixels); what is coarser is random.
_START, _LEVELS = 7, 4  # 7, 14, 28 and 56 pixels; the last is unshuffled to 112.
_TURN, _SCALE, _SHIFT = math.radians(4), 0.03, 1.5  # Standard deviations of the random pose; the last in pixels.
_BATCH = 8


class FaceRenderer(nn.Module):
    """Draws detail from embeddings (n, 640) on low frequencies and in a pose that are random: about a million weights.

    Args:
        width: channels of the finest level, a multiple of 8.
        style: numbers that the embeddings are first brought to.
    """

    center: torch.Tensor
    carrier_mean: torch.Tensor
    carrier_basis: torch.Tensor

    def __init__(self, width: int = 24, style: int = 192) -> None:
        super().__init__()
        widths = [width * 2 ** min(level, 2) for level in range(_LEVELS)][::-1]
        self.style = nn.Sequential(nn.Linear(DIMENSION, style), nn.SiLU(), nn.Linear(style, style))
        self.enter = nn.Linear(style, widths[0] * _START**2)
        self.first = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths)
        self.last = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for b in widths)
        self.scales = nn.ModuleList(nn.Linear(style, 2 * b) for b in widths)
        self.out = nn.Conv2d(width, 2**2, 3, padding=1)
        self.register_buffer("center", torch.zeros(DIMENSION))  # The mean embedding.
        self.register_buffer("carrier_mean", torch.full((3, CARRIER_SIDE, CARRIER_SIDE), 0.5))
        self.register_buffer("carrier_basis", torch.zeros(CARRIERS, 3, CARRIER_SIDE, CARRIER_SIDE))

    def person(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, 640) less what all people have in common, each recognizer's part of length 1 again."""
        parts = (embeddings - self.center).split(PARTS, 1)
        return torch.cat([functional.normalize(part, dim=1) for part in parts], 1)

    def detail(self, people: torch.Tensor) -> torch.Tensor:
        """What ``person`` gives (n, 640) -> detail of the luma (n, 1, 112, 112)."""
        style = functional.silu(self.style(people * 16))
        features = self.enter(style).unflatten(1, (-1, _START, _START)).contiguous(memory_format=torch.channels_last)
        for level, (first, norm, last, scale) in enumerate(
            zip(self.first, self.norms, self.last, self.scales, strict=True)
        ):
            if level:
                features = functional.interpolate(features, scale_factor=2.0)
            gain, offset = scale(style)[:, :, None, None].chunk(2, dim=1)
            features = functional.silu(norm(first(features)) * (1 + gain) + offset)
            features = functional.silu(last(features))
        luma = functional.pixel_shuffle(self.out(features), 2).float()
        return luma - filters.gaussian(luma, DETAIL)

    def draw(self, keys: list[torch.Generator]) -> dict[str, torch.Tensor]:
        """The randomness of n images: weights of the carrier, and the pose (mirrored, turn, scale, shift)."""
        where = self.carrier_mean.device
        carrier, pose, mirrored = [], [], []
        for key in keys:
            carrier.append(torch.randn(CARRIERS, generator=key))
            pose.append(torch.randn(4, generator=key).clamp(-2, 2))
            mirrored.append(torch.randint(0, 2, (1,), generator=key) * 2 - 1)
        return {"carrier": torch.stack(carrier).to(where), "pose": torch.stack(pose).to(where),
                "mirrored": torch.stack(mirrored).float().to(where)}  # fmt: skip

    def compose(self, detail: torch.Tensor, drawn: dict[str, torch.Tensor]) -> torch.Tensor:
        """Detail (n, 1, 112, 112) and its draws -> images (n, 3, 112, 112) in [0, 1]."""
        low = self.carrier_mean + torch.einsum("nk,kchw->nchw", drawn["carrier"], self.carrier_basis)
        carrier = functional.interpolate(low, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
        turn, scale, across, down = drawn["pose"].unbind(1)
        turn, scale = turn * _TURN, 1 + scale * _SCALE
        cosine, sine, pixel = scale * turn.cos(), scale * turn.sin(), 2 / SIZE
        rows = [cosine * drawn["mirrored"][:, 0], -sine, across * _SHIFT * pixel, sine, cosine, down * _SHIFT * pixel]
        places = functional.affine_grid(torch.stack(rows, 1).unflatten(1, (2, 3)), [len(detail), 1, SIZE, SIZE], False)
        posed = functional.grid_sample(detail, places, padding_mode="reflection", align_corners=False)
        return (carrier + posed).clamp(0, 1)


class FaceRendererConfig(Config):
    """``draws``: a face for each photo, from a secret key and the photo's coarse look, or a fresh one every call."""

    draws: Literal["photo", "call"] = "call"


class RenderedFace(Defense):
    """Reads a photo with two recognizers and releases a face that is drawn from their embeddings."""

    version = 1
    card = DefenseCard(
        title="Face rendered from embeddings", family="local features", licence="MIT",
        reference="ppfr-bench, docs/reference_defense.md", randomness="per_call",
        training_data="synthetic identities of the defender (DigiFace GAN); no real person",
    )  # fmt: skip
    Config = FaceRendererConfig

    @property
    def randomness(self) -> Randomness:
        """``per_session_key`` if each photo has one draw."""
        return "per_session_key" if self.config.draws == "photo" else "per_call"

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same."""
        fresh = self.config.draws == "call"
        keys = per_image_generators(generator, len(images)) if fresh else draws.photo_generators(0, images)
        network, released = _renderer.on(images.device), []
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                detail = network.detail(network.person(read(images[start : start + _BATCH])))
                released.append(network.compose(detail, network.draw(keys[start : start + _BATCH])))
        return torch.cat(released) if released else images.clone()


@cache
def recognizers() -> tuple[nn.Module, ...]:
    """The two networks, with gradients to the images."""
    with weights_from(torch.Generator()):  # Layers draw weights when they are made, which the file then replaces.
        found = [load_recognizer(name) for name in RECOGNIZERS]
    return tuple(one.differentiable().eval() for one in found if isinstance(one, Differentiable))


def read(images: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, 112, 112) in [0, 1] -> embeddings (n, 640), each recognizer's of length 1."""
    return torch.cat([network(images) for network in recognizers()], dim=1)


@device.per_device
def _renderer() -> FaceRenderer:
    with weights_from(torch.Generator()):
        network = FaceRenderer()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


DEFENSE = RenderedFace
