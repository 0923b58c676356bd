"""A representation whose channels were mixed by a matrix of each image's own, such as a shuffle: what no mixture hides.

Mixing channels leaves the space that they span over the places of an image as it is. So it leaves how much each place
stands out in it, and the most face-like map that it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Arrays, ByteArray, to_float
from ppfr_bench.learning.resizing import resize

_SHRINKAGE = 0.3  # The covariance of faces is drawn so far towards a round one of its mean variance.
_PENALTY = 1e-3  # On the weights of the channels.
_SWING = 0.2  # A deviation of a map, in [0, 1].
_LUMA = (0.299, 0.587, 0.114)
_BATCH = 64


@dataclass(frozen=True)
class MixedChannels:
    """Makes an image of three maps out of a release (n, c, h, h), each of mean 1/2 and deviation 1/5.

    They are the combination of channels that is likeliest as the luma of a face; the logarithm of each place's
    leverage, x' (X X')^-1 x, where x holds its channels and X those of all places; and the logarithm of its energy,
    x' x. The first two are the same whatever invertible matrix the channels are multiplied by.

    Attributes:
        mean: (h * h,), of the luma of clear faces at the places, less its mean over them.
        precision: (h * h, h * h), the inverse of its covariance.
    """

    mean: torch.Tensor
    precision: torch.Tensor

    def __call__(self, released: ByteArray) -> torch.Tensor:
        """uint8 (n, c, h, h) as released -> float32 (n, 3, 112, 112) in [0, 1], on the current device."""
        parts = (np.asarray(released[start : start + _BATCH]) for start in range(0, len(released), _BATCH))
        return torch.cat([resize(self._maps(part), SIZE) for part in parts])

    def _maps(self, released: ByteArray) -> torch.Tensor:
        channels = to_float(released).flatten(2)
        channels = channels - channels.mean(2, keepdim=True)
        basis: torch.Tensor = torch.linalg.svd(channels, full_matrices=False)[2]
        weighted = basis @ self.precision
        gram = weighted @ basis.transpose(1, 2)
        penalty = _PENALTY * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        weights = torch.linalg.solve(gram + penalty * torch.eye(gram.shape[1]).to(gram), weighted @ self.mean)
        face = (weights[:, None] @ basis)[:, 0]
        leverage, energy = ((x.square().sum(1) + 1e-4).log() for x in (basis, channels))
        maps = torch.stack([face, leverage, energy], dim=1)
        maps = (maps - maps.mean(2, keepdim=True)) / maps.std(2, keepdim=True).clamp_min(1e-6)
        side = released.shape[-1]
        return (0.5 + _SWING * maps).clamp(0, 1).reshape(len(maps), 3, side, side)

    def arrays(self) -> Arrays:
        """For a material, read by ``of``."""
        return {"mean": self.mean.cpu().numpy(), "precision": self.precision.cpu().numpy()}

    @staticmethod
    def of(arrays: Arrays) -> MixedChannels:
        """Those whose ``arrays`` these are, on the current device."""
        mean, precision = (device.to(torch.from_numpy(np.array(arrays[name]))) for name in ("mean", "precision"))
        return MixedChannels(mean, precision)


def fit_mixed_channels(clear: Iterable[ByteArray], side: int) -> MixedChannels:
    """Learn what the luma of a face looks like on a grid of ``side`` places.

    Args:
        clear: batches uint8 (n, 3, 112, 112) of clear faces.
        side: of the grid; 112 is a multiple of it.
    """
    weights = device.to(torch.tensor(_LUMA))[:, None, None]
    luma = torch.cat(
        [
            functional.avg_pool2d((to_float(part) * weights).sum(1, keepdim=True), SIZE // side).flatten(1)
            for part in clear
        ]
    )
    luma = luma - luma.mean(1, keepdim=True)
    mean = luma.mean(0)
    covariance = device.double((luma - mean).T @ (luma - mean) / len(luma))
    round_ = (_SHRINKAGE * covariance.diagonal().mean()).clamp_min(1e-6) * torch.eye(side * side).to(covariance)
    inverse: torch.Tensor = torch.linalg.inv(covariance + round_)
    return MixedChannels(mean, device.to(inverse.float()))
