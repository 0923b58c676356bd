"""Decoding: undo, position by position, whatever a fixed key does to the values of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import Faces

Images = npt.NDArray[np.uint8]
_IMAGES = 1000  # fitted on at most so many
_POSITIONS = 512  # at a time
_TRIED = 256  # positions on which it is decided whether decoding pays
_LOST = 0.05  # share of the clear variance that a plain regression must leave unexplained
_GAIN = 0.5  # share of its squared error that decoding must save: a key that is found explains nearly all
_STRENGTH = 1e-3


def _basis() -> torch.Tensor:
    """(256, 12): bits of a byte undo a key that is xored, waves one that is added modulo 256."""
    byte = torch.arange(256)
    turn = byte.float() * (2 * np.pi / 256)
    bits = [((byte >> b) & 1).float() for b in range(8)]
    return torch.stack([*bits, turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], dim=1)


def _plain(values: torch.Tensor) -> torch.Tensor:
    """uint8 (p, n, 3) -> float32 (p, n, 4): one and the three values."""
    return torch.cat([torch.ones_like(values[..., :1], dtype=torch.float32), values.float() / 255], dim=-1)


def _rich(values: torch.Tensor) -> torch.Tensor:
    """uint8 (p, n, 3) -> float32 (p, n, 37): one, and the basis at each of the three values."""
    features = _basis()[values.int()].flatten(-2)
    return torch.cat([torch.ones_like(features[..., :1]), features], dim=-1)


@dataclass(frozen=True)
class Decoder:
    """A regression at each position of its three clear values on bits and waves of its three released ones."""

    weights: torch.Tensor  # (positions, 37, 3)

    def __call__(self, images: Images) -> Images:
        """uint8 (n, 3, h, w) -> the same, decoded."""
        values, table = _by_position(images), self._table
        out = torch.empty(values.shape, dtype=torch.uint8)
        for start in range(0, len(values), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            answer = self.weights[part, :1].expand(-1, values.shape[1], -1).clone()
            for channel in range(3):
                at = values[part, :, channel].long()[..., None].expand(-1, -1, 3)
                answer += table[part, channel].gather(1, at)
            out[part] = (answer * 255).round().clamp(0, 255).to(torch.uint8)
        return out.permute(1, 2, 0).reshape(images.shape).contiguous().numpy()

    @cached_property
    def _table(self) -> torch.Tensor:
        """(positions, 3, 256, 3): what each byte in each channel adds to the answer."""
        return torch.einsum("vf,pcfo->pcvo", _basis(), self.weights[:, 1:].unflatten(1, (3, 12)))


def fit_decoder(released: Images, faces: Faces, validation: npt.NDArray[np.bool_]) -> Decoder | None:
    """A decoder, or None where the values tell enough, or bits and waves hardly more.

    Args:
        released: uint8 (n, 3, h, w), the protected images of ``faces``.
        validation: True for the rows, of identities of their own, that decide.
    """
    rows = np.linspace(0, len(faces) - 1, min(len(faces), _IMAGES)).astype(np.int64)
    x, y = _by_position(np.asarray(released[rows])), _by_position(faces.load(rows))
    held = torch.from_numpy(validation[rows])
    if not bool(held.any()) or bool(held.all()):
        return None
    tried = torch.linspace(0, len(x) - 1, min(len(x), _TRIED)).long()
    errors = []
    for features in (_plain(x[tried]), _rich(x[tried])):
        weights = _solve(features[:, ~held], y[tried][:, ~held])
        errors.append(float((features[:, held] @ weights - y[tried][:, held].float() / 255).square().mean()))
    spread = float((y[tried].float() / 255).var(1).mean())
    if errors[0] < _LOST * spread or errors[1] > (1 - _GAIN) * errors[0]:
        return None
    parts = range(0, len(x), _POSITIONS)
    return Decoder(torch.cat([_solve(_rich(x[i : i + _POSITIONS]), y[i : i + _POSITIONS]) for i in parts]))


def _solve(features: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Ridge towards the mean, (p, n, d) and uint8 (p, n, 3) -> (p, d, 3)."""
    target = values.float() / 255
    gram = features.mT @ features
    ridge = _STRENGTH * features.shape[1] * torch.eye(gram.shape[-1])
    ridge[0, 0] *= 1e-3  # the constant is hardly held back
    solution: torch.Tensor = torch.linalg.solve(gram + ridge, features.mT @ target)
    return solution


def _by_position(images: Images) -> torch.Tensor:
    """uint8 (n, 3, h, w) -> (h * w, n, 3)."""
    return torch.from_numpy(np.ascontiguousarray(images)).flatten(2).permute(2, 0, 1).contiguous()
