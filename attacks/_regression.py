"""Regression from whole image to whole image in closed form: dual, centred, the kernel chosen on held-out people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3)  # times the mean of the kernel's diagonal
_COLUMNS = 2048

View = Callable[[torch.Tensor], torch.Tensor]  # uint8 or float (n, 3, h, w) -> float32 (n, d)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """The pixels themselves: undoes whatever is linear, a global permutation among it."""
    return images.flatten(1).float()


def spectrum(images: torch.Tensor) -> torch.Tensor:
    """Logarithm of the amplitudes of the luma: what is left where phases or positions are random."""
    luma = images.float().mean(1)
    amplitudes: torch.Tensor = torch.fft.rfft2(luma, norm="ortho").abs()
    return amplitudes.log1p().flatten(1)


VIEWS: dict[str, View] = {"pixels": pixels, "spectrum": spectrum}


@dataclass(frozen=True)
class Regression:
    """mean_y + k(x) alpha: ridge regression under the one of three kernels with the least error on held-out people.

    Attributes:
        name: ``pixels``, ``spectrum`` or ``curved`` (Gaussian of the distance in pixels).
        strength: of ``STRENGTHS``.
        left_out: float32 (n, e), the answer on each image it was fitted on, had that person's images been left out.
        error: mean squared error on the held-out people, of each kernel at its best strength.
    """

    name: str
    strength: float
    left_out: torch.Tensor
    error: dict[str, float]
    _inputs: torch.Tensor
    _dual: torch.Tensor
    _mean: torch.Tensor
    _kernel: _Kernel

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images like those it was fitted on, (m, 3, h, w) -> float32 (m, e)."""
        return self._kernel(images, self._inputs).float() @ self._dual + self._mean


def regress(
    inputs: torch.Tensor, outputs: torch.Tensor, identities: npt.NDArray[np.int64], validation: npt.NDArray[np.bool_]
) -> Regression:
    """Fit on all images, with the kernel and the strength that do best on the ``validation`` rows.

    Args:
        inputs: (n, 3, h, w), bytes or floats of any range.
        outputs: float32 (n, e), row by row of the same person's image.
        identities: int (n,).
        validation: True for the rows, of identities of their own, that choose.
    """
    return regress_best({"": inputs}, outputs, identities, validation)[1]


def regress_best(
    views: Mapping[str, torch.Tensor], outputs: torch.Tensor, identities: npt.NDArray[np.int64],
    validation: npt.NDArray[np.bool_],
) -> tuple[str, Regression]:  # fmt: skip
    """As ``regress``, from whichever of several inputs does best on the ``validation`` rows, and its name."""
    mean = outputs.mean(0)
    y = outputs - mean
    inner = (y @ y.T).double()  # errors need only the inner products of the outputs
    held, known = torch.from_numpy(validation), torch.from_numpy(~validation)
    least, found = float("inf"), None
    for view, inputs in views.items():
        kernels = _kernels(inputs)
        chosen = {name: _choose(gram, inner, known, held) for name, (_, gram) in kernels.items()}
        name = min(chosen, key=lambda name: chosen[name][0])
        if found is None or chosen[name][0] < least:
            least, found = chosen[name][0], (view, name, chosen, kernels[name])
    assert found is not None, "there is at least one view"
    view, best, chosen, (kernel, gram) = found
    strength = chosen[best][1]
    inverse = torch.cholesky_inverse(_factor(gram, strength))
    # Doubles, as weak strengths ask for them; a few columns at a time, as they take room.
    dual = torch.cat([(inverse @ part.double()).float() for part in y.split(_COLUMNS, dim=1)], dim=1)
    # Leaving rows out of a ridge regression has a closed form: y - G_BB^-1 (G y)_B, G the inverse.
    left_out = torch.empty_like(y)
    for person in np.unique(identities):
        rows = torch.from_numpy(np.flatnonzero(identities == person))
        left_out[rows] = y[rows] - torch.linalg.solve(inverse[rows][:, rows], dual[rows].double()).float() + mean
    errors = {name: round(error / y.shape[1], 7) for name, (error, _) in chosen.items()}
    return view, Regression(best, strength, left_out, errors, views[view], dual, mean, kernel)


@dataclass(frozen=True)
class _Kernel:
    """Inner products of one view of the images, centred on those it was fitted on; a width bends them."""

    view: View
    mean: torch.Tensor
    width: float | None = None  # mean squared distance, where the kernel is Gaussian

    def __call__(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(m, ...) and (n, ...) -> float64 (m, n)."""
        a, b = self.view(left) - self.mean, self.view(right) - self.mean
        return self.bend(_gram(a, b), a.square().sum(1), b.square().sum(1))

    def bend(self, products: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Inner products and squared lengths -> the kernel."""
        if self.width is None:
            return products
        squared = (left.double()[:, None] + right.double() - 2 * products).clamp_min(0)
        # On constant inputs all distances are nought: the kernel is then flat, and any strength answers the mean.
        return torch.exp(-squared / (2 * max(self.width, 1e-9)))


def _kernels(inputs: torch.Tensor) -> dict[str, tuple[_Kernel, torch.Tensor]]:
    """Every kernel and its Gram matrix; the curved one is bent from that of the pixels."""
    found = {}
    for name, view in VIEWS.items():
        features = view(inputs)
        mean = features.mean(0)
        features = features - mean  # not in place: of single-precision inputs it is a view
        found[name] = _Kernel(view, mean), _gram(features, features)
    lengths = found["pixels"][1].diagonal()
    curved = _Kernel(pixels, found["pixels"][0].mean, 2 * float(lengths.mean()))
    found["curved"] = curved, curved.bend(found["pixels"][1], lengths, lengths)
    return found


def _gram(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right.T in doubles: in single precision it would not be positive definite at weak strengths."""
    gram = torch.zeros(len(left), len(right), dtype=torch.float64)
    for a, b in zip(left.split(_COLUMNS, dim=1), right.split(_COLUMNS, dim=1), strict=True):
        gram += a.double() @ b.double().T
    return gram


def _choose(gram: torch.Tensor, inner: torch.Tensor, known: torch.Tensor, held: torch.Tensor) -> tuple[float, float]:
    """The least squared error an image on the held rows, and its strength; the greatest one that is as good."""
    if not bool(held.any()):
        return 0.0, STRENGTHS[-1]
    inside, across = gram[known][:, known], gram[held][:, known]
    yy, yh, hh = inner[known][:, known], inner[known][:, held], inner[held][:, held].diagonal()
    errors = []
    for strength in STRENGTHS:
        weights = torch.cholesky_solve(across.T, _factor(inside, strength))
        squared = (weights * (yy @ weights)).sum(0) - 2 * (weights * yh).sum(0) + hh
        errors.append(float(squared.mean()))
    best = min(errors)
    return best, max(s for s, error in zip(STRENGTHS, errors, strict=True) if error <= best)


def _factor(gram: torch.Tensor, strength: float) -> torch.Tensor:
    # On a constant input the kernel is zero: any strength then answers with the mean.
    scale = gram.diagonal().mean().clamp_min(1e-9)
    factor: torch.Tensor = torch.linalg.cholesky(gram + (strength * scale).expand(len(gram)).diag())
    return factor
