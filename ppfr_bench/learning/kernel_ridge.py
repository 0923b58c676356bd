"""Kernel ridge regression from whole image to whole image, in closed form, its kernel chosen on held-out people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import device
from ppfr_bench.api import IntArray

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e3)  # The penalty is this times the mean of the Gram diagonal.
_COMPARED = 800  # Kernels are compared on at most so many images; the best one is fitted on all.
_COLUMNS = 2048  # So many columns are doubles at a time.
_ROWS = 256  # Of a Gram matrix, whose upper half is not computed.
_AS_GOOD = 0.005  # The simplest kernel is taken whose error is larger than the least by at most this share of it.

FeatureMap = Callable[[torch.Tensor], torch.Tensor]  # uint8 or float (n, c, h, w) -> float32 (n, d).


def pixels(images: torch.Tensor) -> torch.Tensor:
    """The values themselves, (n, c, h, w) -> float32 (n, c * h * w).

    A linear map of them undoes whatever is linear, a fixed permutation of the pixels too.
    """
    return images.flatten(1).float()


def spectrum(images: torch.Tensor) -> torch.Tensor:
    """log(1 + amplitude) of the Fourier transform of the channel mean, (n, c, h, w) -> float32 (n, h * (w // 2 + 1)).

    It is what remains where phases or positions are random.
    """
    luma = images.float().mean(1)
    amplitudes: torch.Tensor = torch.fft.rfft2(luma, norm="ortho").abs()
    return amplitudes.log1p().flatten(1)


FEATURE_MAPS: dict[str, FeatureMap] = {"pixels": pixels, "spectrum": spectrum}
KERNELS = ("pixels", "curved", "spectrum")  # The simplest first; the last does not know where things are.


@dataclass(frozen=True)
class KernelRidge:
    """f(x) = k(x, X) @ a + b, with a penalty on a alone, under the one of three kernels that held-out people choose.

    An answer is a sum of the outputs of the fit whose weights sum to 1. So it does not depend on where inputs and
    outputs are centred, and an answer that leaves images out knows nothing of them.

    Source: ridge regression, Hoerl and Kennard 1970; dual form, Saunders, Gammerman and Vovk, ICML 1998.

    Attributes:
        name: of the kernel: ``pixels``, ``spectrum`` or ``curved`` (Gaussian of the distance in pixels).
        strength: of the penalty, one of ``STRENGTHS``.
        left_out: float32 (n, e), the answer on each image of the fit, had that person's images been left out of it.
        error: mean squared error on the held-out people, by kernel, each at its best strength, on the images that
            kernels are compared on.
    """

    name: str
    strength: float
    left_out: torch.Tensor
    error: dict[str, float]
    _inputs: torch.Tensor
    _inverse: torch.Tensor
    _outputs: torch.Tensor
    _mean: torch.Tensor
    _kernel: _Kernel
    _gram: torch.Tensor

    def weaker(self, validation: npt.NDArray[np.bool_], rows: IntArray) -> Iterator[tuple[float, torch.Tensor]]:
        """Answers on held-out images under this penalty and all weaker ones, the strongest first.

        Squared error prefers a blur; other measures may prefer what a weaker penalty answers.

        Args:
            validation: bool (n,), True for the images of the people who are left out here.
            rows: int64 (k,), some of those images.

        Yields:
            A strength, and the answers under it, float32 (k, e).
        """
        known = torch.from_numpy(~validation)
        inside, across = self._gram[known][:, known], self._gram[torch.from_numpy(rows)][:, known]
        for strength in reversed([s for s in STRENGTHS if s <= self.strength]):
            weights = _weights(across, inside, strength)
            yield strength, device.to(weights.float()) @ self._outputs[known] + self._mean

    def at(self, strength: float) -> KernelRidge:
        """The same under another penalty, fitted on all images; ``left_out`` stays that of this one."""
        inverse = torch.cholesky_inverse(_factor(self._gram, strength))
        return replace(self, strength=strength, _inverse=inverse)

    def of_part(self, rows: IntArray, images: torch.Tensor) -> torch.Tensor:
        """What it answers when it is fitted on these rows of its images alone, kernel and strength unchanged.

        Args:
            rows: int64 (k,), of the images of the fit.
            images: like those, (m, c, h, w) on any device.

        Returns:
            float32 (m, e), on the current device.
        """
        part = torch.from_numpy(rows)
        across = self._kernel(device.to(images), self._inputs[part])
        weights = _weights(across, self._gram[part][:, part], self.strength)
        return device.to(weights.float()) @ self._outputs[part] + self._mean

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images like those of the fit, (m, c, h, w) on any device -> float32 (m, e) on the current one."""
        weights = _summing_to_one(self._kernel(device.to(images), self._inputs) @ self._inverse, self._inverse.sum(0))
        return device.to(weights.float()) @ self._outputs + self._mean


def fit_kernel_ridge(
    inputs: torch.Tensor, outputs: torch.Tensor, identities: IntArray, validation: npt.NDArray[np.bool_]
) -> KernelRidge:
    """Fit on all images, with the kernel and the strength that do best on the held-out people.

    Args:
        inputs: (n, c, h, w), bytes or floats of any range.
        outputs: float32 (n, e), row by row of the same person's image.
        identities: int64 (n,).
        validation: bool (n,), True for the images of the people who choose; the fit that is returned has them too.
    """
    return fit_best_kernel_ridge({"": inputs}, outputs, identities, validation)[1]


def fit_best_kernel_ridge(
    candidates: Mapping[str, torch.Tensor], outputs: torch.Tensor, identities: IntArray,
    validation: npt.NDArray[np.bool_],
) -> tuple[str, KernelRidge]:  # fmt: skip
    """As ``fit_kernel_ridge``, on whichever of several inputs does best on the held-out people; its name comes first.

    Args:
        candidates: one or more inputs by name, (n, c, h, w) each.
        outputs: as in ``fit_kernel_ridge``, and so are the other two.
        identities: int64 (n,).
        validation: bool (n,).
    """
    outputs = device.to(outputs)
    mean = outputs.mean(0)
    y = outputs - mean
    some = np.linspace(0, len(y) - 1, min(len(y), _COMPARED)).astype(np.int64)
    tried = _errors({name: device.to(given[some]) for name, given in candidates.items()}, y[some], validation[some])
    candidate, _ = min(tried, key=lambda pair: tried[pair][0])
    errors = {name: error for (of, name), (error, _) in tried.items() if of == candidate}
    least = min(errors.values())  # Of an exact fit it may be below 0 by rounding.
    best = next(name for name in KERNELS if errors[name] <= least + _AS_GOOD * abs(least))
    inputs = device.to(candidates[candidate])
    kernel, gram = _kernels(inputs, [best])[best]
    # Squared errors need only the inner products of the outputs.
    _, strength = _choose(gram, device.double(_self_product(y)), validation)
    inverse = torch.cholesky_inverse(_factor(gram, strength))
    left_out = device.to(_left_out(inverse, identities).float()) @ y + mean
    errors = {name: round(error / y.shape[1], 7) for name, error in errors.items()}
    return candidate, KernelRidge(best, strength, left_out, errors, inputs, inverse, y, mean, kernel, gram)


def _errors(
    candidates: Mapping[str, torch.Tensor], y: torch.Tensor, validation: npt.NDArray[np.bool_]
) -> dict[tuple[str, str], tuple[float, float]]:
    """The least squared error on the held-out images, and its strength, by candidate and kernel."""
    inner = device.double(_self_product(y))
    return {
        (candidate, name): _choose(gram, inner, validation)
        for candidate, inputs in candidates.items()
        for name, (_, gram) in _kernels(inputs, KERNELS).items()
    }


def _weights(across: torch.Tensor, gram: torch.Tensor, strength: float) -> torch.Tensor:
    """The weights of the outputs in each answer, (m, n), which sum to 1.

    Args:
        across: doubles (m, n), the kernel of what is asked and the images of the fit.
        gram: doubles (n, n), of the latter.
        strength: of the penalty.
    """
    columns = torch.cat([across.T, across.new_ones(across.shape[1], 1)], dim=1)
    solved = torch.cholesky_solve(columns, _factor(gram, strength)).T
    return _summing_to_one(solved[:-1], solved[-1])


def _summing_to_one(weights: torch.Tensor, of_ones: torch.Tensor) -> torch.Tensor:
    """Weights (m, n) of a fit without a constant, and what its inverse makes of ones (n,) -> those with a constant."""
    return weights + (1 - weights.sum(1, keepdim=True)) / of_ones.sum() * of_ones


def _left_out(inverse: torch.Tensor, identities: IntArray) -> torch.Tensor:
    """The weights (n, n), doubles, of the outputs in the answer on each image, had its person been left out of the fit.

    Leaving rows B out of a regression has a closed form: y_B - P_BB^-1 (P y)_B, where P y are the weights of the kernel
    in the fit on all; with a constant, P = G - G 1 1' G / 1' G 1, where G is the inverse without one. Where there is
    one person the weights are 0. They are doubles, as weak strengths need them; what they weigh may be single.
    """
    people = np.unique(identities)
    weights = torch.zeros_like(inverse)
    if len(people) == 1:
        return weights
    of_ones = inverse.sum(0)
    inverse = inverse - of_ones[:, None] / of_ones.sum() * of_ones
    for person in people:
        rows = torch.from_numpy(np.flatnonzero(identities == person))
        weights[rows] = -torch.linalg.solve(inverse[rows][:, rows], inverse[rows])
        weights[rows[:, None], rows] = 0.0  # Exactly so: the person's own outputs have no part.
    return weights


@dataclass(frozen=True)
class _Kernel:
    """Inner products of features, centred on the images of the fit; with a width, a Gaussian of their distances."""

    features: FeatureMap
    mean: torch.Tensor
    width: float | None = None  # Mean squared distance, of a Gaussian kernel.

    def __call__(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(m, ...) and (n, ...) -> doubles (m, n)."""
        a, b = self.features(left) - self.mean, self.features(right) - self.mean
        products = device.double(a.new_zeros(len(a), len(b)))
        for some, others in zip(a.split(_COLUMNS, dim=1), b.split(_COLUMNS, dim=1), strict=True):
            products += device.double(some) @ device.double(others).T
        return self.bend(products, a.square().sum(1), b.square().sum(1))

    def bend(self, products: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Inner products (m, n) and squared lengths (m,) and (n,) -> the kernel (m, n)."""
        if self.width is None:
            return products
        squared = (device.double(left)[:, None] + device.double(right) - 2 * products).clamp_min(0)
        # On constant inputs all distances are 0: the kernel is then flat, and the answer is the mean.
        return torch.exp(-squared / (2 * max(self.width, 1e-9)))


def _kernels(inputs: torch.Tensor, names: Sequence[str]) -> dict[str, tuple[_Kernel, torch.Tensor]]:
    """Kernels by name, each with its Gram matrix; the Gaussian one is made from the inner products of the pixels."""
    found = {}
    for name, features_of in FEATURE_MAPS.items():
        if name in names or (name == "pixels" and "curved" in names):
            features = features_of(inputs)
            mean = features.mean(0)
            features = features - mean  # Not in place: of single-precision inputs, features are a view.
            found[name] = _Kernel(features_of, mean), _gram(features)
    if "curved" in names:
        linear, gram = found["pixels"]
        lengths = gram.diagonal()
        curved = _Kernel(pixels, linear.mean, 2 * float(lengths.mean()))
        found["curved"] = curved, curved.bend(gram, lengths, lengths)
    return {name: found[name] for name in names}


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """rows @ rows.T in doubles: in single precision it would not be positive definite at weak strengths."""
    parts = rows.split(_COLUMNS, dim=1)
    gram = _self_product(device.double(parts[0]))
    for part in parts[1:]:
        gram += _self_product(device.double(part))
    return gram


def _self_product(rows: torch.Tensor) -> torch.Tensor:
    """rows @ rows.T, of which the lower half is computed and the upper one copied."""
    product = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), _ROWS):
        stop = start + _ROWS
        part = rows[start:] @ rows[start:stop].T
        product[start:, start:stop] = part
        product[start:stop, stop:] = part[_ROWS:].T
    return product


def _choose(gram: torch.Tensor, inner: torch.Tensor, validation: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The least squared error an image on the held-out rows, and its strength: the greatest one with that error."""
    held_out, known = torch.from_numpy(validation), torch.from_numpy(~validation)
    if not bool(held_out.any()):
        return 0.0, STRENGTHS[-1]
    inside, across = gram[known][:, known], gram[held_out][:, known]
    of_known, between = inner[known][:, known].float(), inner[known][:, held_out]
    of_held_out = inner[held_out][:, held_out].diagonal()
    errors = []
    for strength in STRENGTHS:
        weights = _weights(across, inside, strength).T
        squared = (
            (weights * device.double(of_known @ weights.float())).sum(0) - 2 * (weights * between).sum(0) + of_held_out
        )
        errors.append(float(squared.mean()))
    best = min(errors)
    return best, max(s for s, error in zip(STRENGTHS, errors, strict=True) if error <= best)


def _factor(gram: torch.Tensor, strength: float) -> torch.Tensor:
    """The Cholesky factor of the penalised Gram matrix."""
    # On a constant input the kernel is 0; the floor of its scale makes any strength answer with the mean.
    scale = gram.diagonal().mean().clamp_min(1e-9)
    factor: torch.Tensor = torch.linalg.cholesky(gram + (strength * scale).expand(len(gram)).diag())
    return factor
