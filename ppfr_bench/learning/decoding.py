"""Undoes what a fixed key does to the values of a pixel: position by position, or level by level everywhere alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import device
from ppfr_bench.api import ByteArray, Faces

_IMAGES = 1000  # A decoder is fitted on at most so many images.
_POSITIONS = 512  # So many positions are solved at a time.
_TRIED = 256  # So many positions decide whether decoding pays.
_LOST = 0.05  # Share of the clear variance that a plain regression must leave unexplained.
_GAIN = 0.5  # Share of the plain regression's squared error that decoding must save; a found key saves nearly all.
_STRENGTH = 1e-3  # The ridge penalty is this times the number of images.


@device.per_device
def _basis() -> torch.Tensor:
    """(256, 12) functions of a byte: its bits undo a key that is xored, waves one that is added modulo 256."""
    byte = torch.arange(256)
    turn = byte.float() * (2 * np.pi / 256)
    bits = [((byte >> b) & 1).float() for b in range(8)]
    return torch.stack([*bits, turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], dim=1)


def _plain_features(values: torch.Tensor) -> torch.Tensor:
    """uint8 (p, n, 3) -> float32 (p, n, 4): a constant and the three values."""
    return torch.cat([torch.ones_like(values[..., :1], dtype=torch.float32), values.float() / 255], dim=-1)


def _basis_features(values: torch.Tensor) -> torch.Tensor:
    """uint8 (p, n, 3) -> float32 (p, n, 37): a constant and the basis at each of the three values."""
    features = _basis.on(values.device)[values.int()].flatten(-2)
    return torch.cat([torch.ones_like(features[..., :1]), features], dim=-1)


@dataclass(frozen=True)
class Decoder:
    """At each position, a regression of its three clear values on bits and waves of its three released values.

    Attributes:
        weights: float32 (positions, 37, 3); the decoder works on the device that they are on.
    """

    weights: torch.Tensor

    def __call__(self, images: ByteArray) -> torch.Tensor:
        """Released images -> decoded images, uint8 (n, 3, h, w) with h * w positions, on the device of the weights."""
        values, table = _by_position(images).to(self.weights.device), self._table
        out = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
        for start in range(0, len(values), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            answer = self.weights[part, :1].expand(-1, values.shape[1], -1).clone()
            for channel in range(3):
                at = values[part, :, channel].long()[..., None].expand(-1, -1, 3)
                answer += table[part, channel].gather(1, at)
            out[part] = (answer * 255).round().clamp(0, 255).to(torch.uint8)
        return out.permute(1, 2, 0).reshape(images.shape).contiguous()

    @cached_property
    def _table(self) -> torch.Tensor:
        """(positions, 3, 256, 3): what each byte in each channel adds to the answer."""
        basis = _basis.on(self.weights.device)
        return torch.einsum("vf,pcfo->pcvo", basis, self.weights[:, 1:].unflatten(1, (3, 12)))


@dataclass(frozen=True)
class LevelsDecoder:
    """At every position alike, the mean clear value behind each released one: undoes levels that changed places.

    Attributes:
        weights: float32 (3, 256), by channel and released value; the decoder works on the device that they are on.
    """

    weights: torch.Tensor

    def __call__(self, images: ByteArray) -> torch.Tensor:
        """Released images -> decoded images, uint8 (n, 3, h, w), on the device of the weights."""
        table = (self.weights * 255).round().clamp(0, 255).to(torch.uint8)
        values = torch.from_numpy(np.ascontiguousarray(images)).to(table.device)
        return torch.stack([table[channel][values[:, channel].long()] for channel in range(3)], dim=1)


def read_decoder(weights: torch.Tensor) -> Decoder | LevelsDecoder | None:
    """The decoder of these weights; None where there are none."""
    if not weights.numel():
        return None
    return LevelsDecoder(weights) if weights.ndim == 2 else Decoder(weights)


def fit_decoder(released: ByteArray, faces: Faces, validation: npt.NDArray[np.bool_]) -> Decoder | LevelsDecoder | None:
    """Fit a decoder on the attacker's own images, where it pays.

    Args:
        released: uint8 (n, 3, h, w), the protected images of ``faces``.
        faces: the clear images, row by row.
        validation: bool (n,), True for the images of the people who decide whether decoding pays.

    Returns:
        None where nobody is held out, where a regression on the plain values explains the clear ones already, or where
        neither bits and waves at each position nor a table of levels for all explain much more.
    """
    rows = np.linspace(0, len(faces) - 1, min(len(faces), _IMAGES)).astype(np.int64)
    held_out = torch.from_numpy(validation[rows])
    if not bool(held_out.any()) or bool(held_out.all()):
        return None
    x, y = (device.to(_by_position(images)) for images in (np.asarray(released[rows]), faces.load(rows)))
    tried = torch.linspace(0, len(x) - 1, min(len(x), _TRIED)).long()
    errors = []
    for features in (_plain_features(x[tried]), _basis_features(x[tried])):
        weights = _solve(features[:, ~held_out], y[tried][:, ~held_out])
        missed = features[:, held_out] @ weights - y[tried][:, held_out].float() / 255
        errors.append(float(missed.square().mean()))
    table = _table_of_levels(x[tried][:, ~held_out], y[tried][:, ~held_out])
    found = torch.stack([table[channel][x[tried][:, held_out, channel].long()] for channel in range(3)], dim=-1)
    errors.append(float((found - y[tried][:, held_out].float() / 255).square().mean()))
    spread = float((y[tried].float() / 255).var(1).mean())
    if errors[0] < _LOST * spread or min(errors[1:]) > (1 - _GAIN) * errors[0]:
        return None
    if errors[2] < errors[1]:
        return LevelsDecoder(_table_of_levels(x, y))
    parts = range(0, len(x), _POSITIONS)
    return Decoder(torch.cat([_solve(_basis_features(x[i : i + _POSITIONS]), y[i : i + _POSITIONS]) for i in parts]))


def _solve(features: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Ridge regression at each position, (p, n, d) and uint8 (p, n, 3) -> (p, d, 3)."""
    target = values.float() / 255
    gram = features.mT @ features
    ridge = _STRENGTH * features.shape[1] * torch.eye(gram.shape[-1], device=gram.device)
    ridge[0, 0] *= 1e-3  # The constant is hardly penalised, so that the answer shrinks towards the mean.
    solution: torch.Tensor = torch.linalg.solve(gram + ridge, features.mT @ target)
    return solution


def _table_of_levels(released: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """The mean clear value behind each released one, uint8 (p, n, 3) twice -> float32 (3, 256).

    A level that was never released is a half.
    """
    found = []
    for channel in range(3):
        levels = released[..., channel].flatten().long()
        sums = torch.zeros(256, device=levels.device).index_add_(0, levels, clear[..., channel].flatten().float() / 255)
        counts = levels.bincount(minlength=256)
        found.append(torch.where(counts > 0, sums / counts.clamp_min(1), 0.5))
    return torch.stack(found)


def _by_position(images: ByteArray) -> torch.Tensor:
    """uint8 (n, 3, h, w) -> (h * w, n, 3), on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(images)).flatten(2).permute(2, 0, 1).contiguous()
