"""Randomized smoothing: noise, votes, and the radius within which no perturbation changes the most voted class.

The certificate holds for any base classifier and any perturbation of real values. It is wrong with a probability of at
most ``alpha`` an image, as the share of votes is estimated from samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ppfr_bench.errors import UserError

__all__ = ["ABSTAINS", "NORMS", "Certificate", "Family", "Noise", "Norm", "certify", "lower_bound", "significant"]

Family = Literal["none", "gaussian", "laplace", "uniform"]
Norm = Literal["l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)
ABSTAINS = -1  # In place of a class.
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Independent noise on every value.

    Attributes:
        family: ``gaussian``, ``laplace``, ``uniform``, or ``none``.
        deviation: standard deviation, in the unit of the values; 0 of ``none`` alone.

    Raises:
        UserError: another family, or a deviation that does not fit it.
    """

    family: Family
    deviation: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise UserError(
                f"expected noise of a family with a certificate, got {self.family!r}",
                f"Choose one of: {', '.join(get_args(Family))}.",
            )
        if not math.isfinite(self.deviation) or (self.deviation > 0) == (self.family == "none"):
            raise UserError(
                f"noise '{self.family}' of standard deviation {self.deviation:g}: expected "
                f"{'0' if self.family == 'none' else 'a number above 0'}",
                "Leave out the noise with Noise('none').",
            )

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """float32 of that shape, on the CPU."""
        if self.family == "none":
            return torch.zeros(shape)
        if self.family == "gaussian":
            return torch.randn(shape, generator=generator).mul_(self.deviation)
        even = torch.rand(shape, generator=generator).mul_(2).sub_(1)  # In [-1, 1).
        if self.family == "uniform":
            return even.mul_(self.deviation * math.sqrt(3))
        scale = self.deviation / math.sqrt(2)
        sign = even.sign()
        return sign * even.abs_().clamp_(max=1 - 2**-24).neg_().log1p_().mul_(-scale)  # A draw of 1 would be infinite.

    def radius(self, share: float, norm: Norm, dimensions: int) -> float:
        """How far an input may move before a class with that share of all votes, or more, may lose the majority.

        ========  ==================================  ===================================
        family    proved for                          source
        ========  ==================================  ===================================
        gaussian  l2: s Phi^-1(p)                     Cohen et al., ICML 2019
        laplace   l1: -b ln(2 (1 - p)), b = s/sqrt 2  Teng et al., 2020; Yang et al., ICML 2020
        uniform   l1: 2 w (p - 1/2), w = s sqrt 3     Lee et al., NeurIPS 2019; Yang et al., ICML 2020
        ========  ==================================  ===================================

        The radius in another norm is that of the largest ball of that norm inside the proved one, by
        |x|_2 <= |x|_1 <= sqrt(d) |x|_2 and |x|_1 <= d |x|_inf, |x|_2 <= sqrt(d) |x|_inf.

        Args:
            share: a lower bound p of the class's share, in [0, 1].
            dimensions: d, how many values have noise.

        Returns:
            0 where p is at most 1/2, or the family is ``none``.
        """
        if share <= 0.5 or self.family == "none":
            return 0.0
        if self.family == "gaussian":
            from scipy.special import ndtri  # A quarter of a second to load.

            proved = self.deviation * float(ndtri(share))
            return proved / math.sqrt(dimensions) if norm == "linf" else proved
        if self.family == "laplace":
            proved = -self.deviation / math.sqrt(2) * math.log(2 * max(1 - share, 1e-300))
        else:
            proved = 2 * self.deviation * math.sqrt(3) * (share - 0.5)
        return proved / {"l1": 1.0, "l2": math.sqrt(dimensions), "linf": float(dimensions)}[norm]


@dataclass(frozen=True)
class Certificate:
    """What is certified of n images.

    Attributes:
        classes: int64 (n,): the most voted class, or ``ABSTAINS``.
        shares: float64 (n,): the lower bound of its share of all votes; 0 where it abstains.
        radii: float64 (n,) by norm; 0 where it abstains.
    """

    classes: IntArray
    shares: FloatArray
    radii: dict[Norm, FloatArray]


def lower_bound(hits: npt.ArrayLike, trials: int, alpha: float) -> FloatArray:
    """The one-sided lower limit of Clopper and Pearson (1934): above it lies the share with confidence 1 - alpha.

    Args:
        hits: (n,) of ``trials`` each.
    """
    from scipy.special import betaincinv

    found = np.asarray(hits, dtype=np.float64)
    limit: FloatArray = np.where(
        found > 0, betaincinv(np.maximum(found, 1), np.maximum(trials - found, 0) + 1, alpha), 0.0
    )
    return limit


def certify(
    votes: Callable[[int], IntArray], noise: Noise, dimensions: int, *, first: int = 100, samples: int = 1000,
    alpha: float = 0.001,
) -> Certificate:  # fmt: skip
    """The certificates of n images: CERTIFY of Cohen et al., ICML 2019.

    The class is chosen by ``first`` votes, and its share is bounded by ``samples`` others, so that the choice does not
    bias the bound. Where the bound is not above 1/2 it abstains.

    Args:
        votes: (draws) -> int64 (n, classes), of new draws at each call.
        dimensions: how many values have noise.
        alpha: how likely a certificate may be wrong, at most.
    """
    chosen = votes(first).argmax(axis=1)
    hits = np.take_along_axis(votes(samples), chosen[:, None], axis=1)[:, 0]
    shares = lower_bound(hits, samples, alpha)
    sure = shares > 0.5
    shares = np.where(sure, shares, 0.0)
    radii = {norm: np.asarray([noise.radius(float(p), norm, dimensions) for p in shares]) for norm in NORMS}
    return Certificate(np.where(sure, chosen, ABSTAINS), shares, radii)


def significant(votes: IntArray, alpha: float = 0.001) -> IntArray:
    """The most voted class of each image, or ``ABSTAINS``: PREDICT of Cohen et al., ICML 2019.

    It abstains where an exact two-sided binomial test, of the two most voted classes, does not reject with ``alpha``
    that both have the same share.

    Args:
        votes: int64 (n, classes).
    """
    from scipy.special import bdtr

    order = np.argsort(-votes, axis=1, kind="stable")
    most, next_most = np.take_along_axis(votes, order[:, :2], axis=1).T
    by_chance = np.minimum(1, 2 * bdtr(next_most, most + next_most, 0.5))
    found: IntArray = np.where((most > 0) & (by_chance <= alpha), order[:, 0], ABSTAINS)
    return found
