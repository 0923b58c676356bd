"""The generator of the reference defense: a pyramid of local features, gated and disturbed where training says so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench.api import SIZE

from . import _filters

GRID = 28  # The learned maps have this side: one value for 4x4 pixels of a 112-pixel face.
BANDS = ("fine", "middle", "coarse")  # Detail below 2 pixels, 2 to 4, 4 to 8 (sigmas).
CARRIERS = 16  # A carrier varies in so many directions.
_WAVE, _GRAINS = 16.0, (1.0, 3.0, 6.0)  # Correlation lengths, in pixels: the displacement's, and each band's noise's.
_CARRIER_GRID = 14
_CENTRE, _RATIO = (0.56, 0.5), 0.8  # Training starts from an ellipse at this place, of this width to height.
_WIDEST, _NARROWEST = 62.0, 28.0  # Its half height at strength 0 and 1, in pixels.


class LocalGenerator(nn.Module):
    """Local contrast in three bands on the low frequencies of nobody, under randomness that every image has of its own.

    ``gates`` and ``noise`` are logits (2, bands, 28, 28), what they are at strength 0 and what strength adds to them;
    ``gain`` (bands,), ``warp`` and ``carrier_spread`` (2,) likewise. Maps are mirrored about the middle of the face.
    Carriers are ``carrier_mean`` (3, 14, 14) and ``carrier_basis`` (16, 3, 14, 14), each direction as long as the
    standard deviation of the faces along it.
    """

    carrier_mean: torch.Tensor
    carrier_basis: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(_ellipses())
        self.noise = nn.Parameter(torch.stack([torch.full((len(BANDS), GRID, GRID), value) for value in (-3.0, 0.5)]))
        self.gain = nn.Parameter(torch.full((len(BANDS),), 0.15))
        self.warp = nn.Parameter(torch.tensor([-2.0, 1.0]))
        self.carrier_spread = nn.Parameter(torch.tensor([-1.5, 1.0]))
        self.register_buffer("carrier_mean", torch.full((3, _CARRIER_GRID, _CARRIER_GRID), 0.5))
        self.register_buffer("carrier_basis", torch.zeros(CARRIERS, 3, _CARRIER_GRID, _CARRIER_GRID))

    def forward(self, images: torch.Tensor, strength: float, keys: Sequence[torch.Generator]) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same; the randomness of each image is that of its generator."""
        height, width = images.shape[-2:]
        return self.compose(local_bands(images), self.draw(height, width, keys), strength)

    def draw(self, height: int, width: int, keys: Sequence[torch.Generator]) -> dict[str, torch.Tensor]:
        """The randomness of n images: carrier weights, displacement and a field of unit noise for every band."""
        where = self.gates.device
        weights = torch.stack([torch.randn(CARRIERS, generator=key) for key in keys]).to(where)
        moves = _filters.smooth_fields(keys, 2, height, width, _WAVE, where)
        noise = [_filters.smooth_fields(keys, 1, height, width, grain, where) for grain in _GRAINS]
        return {"carrier": weights, "moves": moves, "noise": torch.cat(noise, dim=1)}

    def compose(self, bands: torch.Tensor, drawn: dict[str, torch.Tensor], strength: float) -> torch.Tensor:
        """Bands (n, 3, h, w) and their draws -> images (n, 3, h, w)."""
        size = bands.shape[-2:]
        kept, disturbed = self.maps(strength, *size)
        moved = _filters.warp(bands, functional.softplus(self.warp[0] + strength * self.warp[1]) * drawn["moves"])
        local = (self.gain[:, None, None] * (kept * moved + disturbed * drawn["noise"])).sum(1, keepdim=True)
        spread = functional.softplus(self.carrier_spread[0] + strength * self.carrier_spread[1])
        low = self.carrier_mean + spread * torch.einsum("nk,kchw->nchw", drawn["carrier"], self.carrier_basis)
        carrier = functional.interpolate(low, size=size, mode="bicubic", align_corners=False)
        return (carrier + local).clamp(0, 1)

    def maps(self, strength: float, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(bands, h, w) twice: how much of each band is kept, in [0, 1], and how much noise is added, from 0."""
        logits = torch.cat([maps[0] + strength * maps[1] for maps in (self.gates, self.noise)])
        logits = (logits + logits.flip(-1)) / 2
        logits = functional.interpolate(logits[None], size=(height, width), mode="bicubic", align_corners=False)[0]
        gates, noise = logits.chunk(2)
        return gates.sigmoid(), functional.softplus(noise)


def local_bands(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) -> (n, bands, h, w): local contrast of the luma, in units of the local standard deviation.

    What is coarser than the last band, and all colour, is not in it: no setting of the generator can let it out.
    """
    luma = _filters.luma(images)
    contrast = _filters.local_contrast(luma, 4.0, 8.0)
    middle = _filters.gaussian(contrast, 2.0)
    coarse = _filters.local_contrast(_filters.gaussian(luma, 4.0), 8.0, 16.0)
    return torch.cat([contrast - middle, middle, coarse], dim=1)


def _ellipses() -> torch.Tensor:
    """Logits of gates that keep an ellipse about the face, narrower as strength grows; little of the coarse band."""
    at = (torch.arange(GRID) + 0.5) * SIZE / GRID
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    radius = ((rows - _CENTRE[0] * SIZE) ** 2 + ((columns - _CENTRE[1] * SIZE) / _RATIO) ** 2).sqrt()
    weakest, strongest = (((half - radius) / 3).clamp(-4, 4) for half in (_WIDEST, _NARROWEST))
    faint = torch.tensor([0.0, 0.0, 4.0])[:, None, None]
    return torch.stack([weakest - faint, (strongest - weakest).expand(len(BANDS), -1, -1)])
