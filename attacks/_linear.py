"""Ridge regression from whole image to whole image, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # times the mean squared length of an input


@dataclass(frozen=True)
class LinearMap:
    """mean_y + (x - mean_x) X^T (X X^T + strength)^-1 (Y - mean_y): dual form, for fewer images than pixels."""

    inputs: torch.Tensor  # centred, (n, d)
    mean_input: torch.Tensor
    dual: torch.Tensor  # (n, e)
    mean_output: torch.Tensor
    strength: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (m, c, h, w) -> float32 (m, e)."""
        return (_flat(images) - self.mean_input) @ self.inputs.T @ self.dual + self.mean_output


def fit_linear(
    inputs: torch.Tensor, outputs: torch.Tensor, validation: npt.NDArray[np.bool_] | None, strength: float = 0.0
) -> LinearMap:
    """Fit on all images; the strength is the given one, or the best of ``STRENGTHS`` on the ``validation`` rows.

    Args:
        inputs, outputs: uint8 (n, c, h, w), row by row of the same person's image.
        validation: True for the rows (of identities of their own) that choose the strength.
    """
    if validation is not None:
        strength = _choose(inputs[~validation], outputs[~validation], inputs[validation], outputs[validation])
    x, y = _flat(inputs), _flat(outputs)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    factor = _factor(x @ x.T, strength)
    dual = torch.cholesky_solve(y.double(), factor).float()
    return LinearMap(x, mean_x, dual, mean_y, strength)


def _choose(x: torch.Tensor, y: torch.Tensor, x_held: torch.Tensor, y_held: torch.Tensor) -> float:
    x, y, x_held, y_held = _flat(x), _flat(y), _flat(x_held), _flat(y_held)
    mean_x, mean_y = x.mean(0), y.mean(0)
    gram, cross = (x - mean_x) @ (x - mean_x).T, (x_held - mean_x) @ (x - mean_x).T
    errors = []
    for strength in STRENGTHS:
        weights = torch.cholesky_solve(cross.T.double(), _factor(gram, strength)).float()
        errors.append(float((weights.T @ (y - mean_y) + mean_y - y_held).square().mean()))
    return STRENGTHS[int(np.argmin(errors))]


def _factor(gram: torch.Tensor, strength: float) -> torch.Tensor:
    scale = gram.diagonal().mean().clamp_min(1e-12).double()
    factor: torch.Tensor = torch.linalg.cholesky(gram.double() + strength * scale * torch.eye(len(gram), dtype=torch.float64))
    return factor


def _flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).float() / 255
