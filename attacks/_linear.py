"""Ridge regression from whole image to whole image, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3)  # times the mean squared length of an input


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


@dataclass(frozen=True)
class Fitted:
    """A linear map, and ``left_out`` float32 (n, e): its answer on each image it was fitted on, had that person's
    images been left out."""

    map: LinearMap
    left_out: torch.Tensor


def fit_linear(
    inputs: torch.Tensor, outputs: torch.Tensor, identities: npt.NDArray[np.int64], validation: npt.NDArray[np.bool_]
) -> Fitted:
    """Fit on all images, with the strength out of ``STRENGTHS`` that does best on the ``validation`` rows.

    Args:
        inputs, outputs: uint8 (n, c, h, w), row by row of the same person's image.
        identities: int (n,).
        validation: True for the rows, of identities of their own, that choose the strength.
    """
    x, y = _flat(inputs), _flat(outputs)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x -= mean_x
    y -= mean_y
    # In single precision it would not be positive definite at weak strengths.
    gram = torch.zeros(len(x), len(x), dtype=torch.float64)
    for part in x.split(2048, dim=1):
        gram += part.double() @ part.double().T
    strength = _choose(gram, y, torch.from_numpy(~validation), torch.from_numpy(validation))
    inverse = torch.cholesky_inverse(_factor(gram, strength))
    # Doubles, as weak strengths ask for them; a few columns at a time, as they take room.
    dual = torch.cat([(inverse @ part.double()).float() for part in y.split(2048, dim=1)], dim=1)
    # Leaving rows out of a ridge regression has a closed form: y - G_BB^-1 (G y)_B, G the inverse.
    left_out = torch.empty_like(y)
    for person in np.unique(identities):
        rows = torch.from_numpy(np.flatnonzero(identities == person))
        left_out[rows] = y[rows] - torch.linalg.solve(inverse[rows][:, rows], dual[rows].double()).float() + mean_y
    return Fitted(LinearMap(x, mean_x, dual, mean_y, strength), left_out)


def _choose(gram: torch.Tensor, y: torch.Tensor, known: torch.Tensor, held: torch.Tensor) -> float:
    """The strength with the least squared error on the held rows; the greatest one that is as good."""
    if not bool(held.any()):
        return STRENGTHS[-1]
    inside, across = gram[known][:, known], gram[held][:, known]
    # The Gram matrix is centred on all rows; centre it again on the known ones.
    column = inside.mean(0)
    across = across - across.mean(1, keepdim=True) - column + column.mean()
    inside = inside - column - column[:, None] + column.mean()
    mean = y[known].mean(0)
    errors = []
    for strength in STRENGTHS:
        weights = torch.cholesky_solve(across.T, _factor(inside, strength)).float()
        errors.append(float((weights.T @ (y[known] - mean) + mean - y[held]).square().mean()))
    best = min(errors)
    return max(s for s, error in zip(STRENGTHS, errors, strict=True) if error <= best)


def _factor(gram: torch.Tensor, strength: float) -> torch.Tensor:
    # On a constant input the Gram matrix is zero: any strength then answers with the mean.
    scale = gram.diagonal().mean().clamp_min(1e-9)
    diagonal = (strength * scale).expand(len(gram)).diag()
    factor: torch.Tensor = torch.linalg.cholesky(gram + diagonal)
    return factor


def _flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).float() / 255
