"""The network of the face renderer: embeddings and random draws in, a face out. Nothing else of a photo reaches it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench.api import SIZE

from ._filters import gaussian

RECOGNIZERS = ("faceplugin", "dlib_resnet")
PARTS = (512, 128)  # Numbers of each one's embedding.
DIMENSION = sum(PARTS)
CARRIERS, CARRIER_SIDE = 16, 14  # Random light, colour and background: directions, and their side.
DETAIL = 8.0  # The network draws detail finer than this (sigma, in pixels); what is coarser is random.
_START, _LEVELS = 7, 4  # 7, 14, 28 and 56 pixels; the last is unshuffled to 112.
_TURN, _SCALE, _SHIFT = math.radians(4), 0.03, 1.5  # Standard deviations of the random pose; the last in pixels.


def read(recognizers: Iterable[nn.Module], images: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, 112, 112) in [0, 1] -> embeddings (n, 640), each recognizer's part of length 1."""
    return torch.cat([network(images) for network in recognizers], dim=1)


class RendererNetwork(nn.Module):
    """Draws detail from embeddings (n, 640) on low frequencies and in a pose that are random: 1.6 million weights.

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
        return luma - gaussian(luma, DETAIL)

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
