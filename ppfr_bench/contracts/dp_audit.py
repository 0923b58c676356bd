"""An audit of differential privacy: the least epsilon that releases of two neighbouring images allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaincinv

from ppfr_bench.api import SIZE, ByteArray, Defense, FloatArray, Guarantee, IntArray, UserError
from ppfr_bench.contracts.findings import BreachError, Finding
from ppfr_bench.stages.release import draws_for, protect_once

__all__ = ["Audit", "audit", "check_guarantee", "epsilon_limit", "largest_limit", "neighbours"]

_BATCH = 250  # Releases at a time.
_FITTED = 2000  # At most so many releases of each neighbour are held in memory, to fit the statistics to.
_LEAST = 40  # Draws below which the parts of an audit are too small to fit and choose anything.
_BINS = 12  # Of a released value: with about as many releases in each.
_SUMMED = (1, 3, 16, 64)  # A statistic sums the evidence of so many released values, those that differ most.
_THRESHOLDS = 200
_CELL = 16  # Grids of blocks begin at the corner, mostly with this side or a part of it.
_CHECKED, _SURE = 2000, 0.999  # Draws of ``check_guarantee``, and how sure it is before it refuses a defense.

Pair = tuple[ByteArray, ByteArray]
Statistic = Callable[[ByteArray], FloatArray]  # Releases uint8 (n, values) -> (n,); larger for the second neighbour.


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        guarantee: the claim.
        limit: the lower limit on epsilon at the delta of the claim, 0 or more.
        draws: releases of each neighbour, of which the last half was counted.
        confidence: of the limit.
        hits: in how many counted releases of one neighbour the event was seen.
        false_hits: the same of the other.
    """

    guarantee: Guarantee
    limit: float
    draws: int
    confidence: float
    hits: int
    false_hits: int

    @property
    def refuted(self) -> bool:
        """Whether the limit is above the epsilon claimed."""
        return self.limit > self.guarantee.epsilon


def neighbours(guarantee: Guarantee, side: int = SIZE) -> Pair:
    """Two images uint8 (3, side, side) that differ as much as neighbours may under the guarantee.

    Per pixel or pixels: a square of them near the middle of a grey image, black in one and white in the other. Per
    image: black and white.

    Raises:
        UserError: the guarantee is per coefficient or identity, whose neighbours only its author can name.
    """
    if guarantee.per in ("coefficient", "identity"):
        raise UserError(
            f"The neighbours of a guarantee per {guarantee.per} depend on the method.", "Pass two of them to audit()."
        )
    pixels = side * side if guarantee.per == "image" else min(guarantee.pixels, side * side)
    width = math.ceil(math.sqrt(pixels))
    corner = min(side // 2 // _CELL * _CELL, side - width)
    places = np.arange(pixels)
    rows, columns = corner + places // width, corner + places % width
    black, white = (np.full((3, side, side), 128, dtype=np.uint8) for _ in range(2))
    black[:, rows, columns], white[:, rows, columns] = 0, 255
    return black, white


def epsilon_limit(
    hits: FloatArray | int, false_hits: FloatArray | int, draws: int, delta: float = 0.0, confidence: float = 0.95
) -> FloatArray:
    """Lower limit on epsilon from how often an event was seen: log((p - delta) / q), or 0 if that is less.

    p is the lower Clopper-Pearson limit on the event's probability under one neighbour, q the upper limit under the
    other. Each is one-sided with confidence (1 + confidence) / 2, so that both hold together with ``confidence``
    (Bonferroni). The event must not have been chosen by the draws that are counted here.

    Args:
        hits: in how many of ``draws`` releases of one neighbour the event was seen; broadcasts.
        false_hits: the same of the other.
        draws: releases of each, 1 or more.
        delta: of the guarantee.
        confidence: in (0, 1).

    Source: Jagielski, Ullman and Oprea, Auditing Differentially Private Machine Learning, NeurIPS 2020.
    """
    low, high = _limits(hits, false_hits, draws, confidence)
    return np.asarray(np.log(np.maximum((low - delta) / high, 1)))


def largest_limit(draws: int, delta: float = 0.0, confidence: float = 0.95) -> float:
    """The limit that an audit of so many draws finds if every release tells which neighbour it is of."""
    counted = draws - draws // 2
    return float(epsilon_limit(counted, 0, counted, delta, confidence))


def audit(
    defense: Defense, pair: Pair, *, draws: int, seed: int, guarantee: Guarantee | None = None,
    confidence: float = 0.95,
) -> Audit:  # fmt: skip
    """Lower limit on epsilon from ``draws`` releases of each of two neighbours.

    One quarter of the draws is what statistics are fitted to; at most 2,000 of each neighbour. The rest of that half
    chooses one statistic, a threshold, and which of the neighbours is the likelier beyond it. The other half is
    counted. Since the direction is chosen before anything is counted, one limit is computed, not the larger of two.

    A limit below the claim proves nothing: another pair, another event or more draws might find more.

    Args:
        defense: fitted, if it learns.
        pair: uint8 (3, h, w) each, neighbours under the guarantee.
        draws: releases of each, 40 or more.
        seed: of all randomness.
        guarantee: the claim; the defense's own by default.
        confidence: of the limit, in (0, 1).

    Raises:
        UserError: there is no guarantee, or there are too few draws.
        BreachError: the defense breaks its contract.

    Sources: Jagielski, Ullman and Oprea, NeurIPS 2020; Nasr, Song, Thakurta, Papernot and Carlini, Adversary
    Instantiation: Lower Bounds for Differentially Private Machine Learning, S&P 2021.
    """
    claim = guarantee or defense.guarantee
    if claim is None:
        raise UserError(f"{defense.card.title} has no guarantee to audit.", "Pass the one that you mean.")
    if draws < _LEAST:
        raise UserError(f"An audit needs {_LEAST} draws or more, got {draws}.", "Pass some thousand draws.")
    generator, fitted = draws_for(np.stack(pair), seed, 0), min(draws // 4, _FITTED)

    def values(statistics: Sequence[Statistic], count: int) -> list[FloatArray]:
        """Of ``count`` further releases of each neighbour, (statistics, count) each."""
        return [
            np.concatenate(
                [[one(part) for one in statistics] for part in _releases(defense, image, count, generator)], 1
            )
            for image in pair
        ]

    statistics = _statistics(*(np.concatenate([*_releases(defense, image, fitted, generator)]) for image in pair))
    first, second = values(statistics, draws // 2 - fitted)
    chosen, threshold, swapped = _choice(first, second, claim.delta, confidence)
    counted = draws - draws // 2
    found = [int((_turned(one[0], swapped) >= threshold).sum()) for one in values([statistics[chosen]], counted)]
    hits, false_hits = found if swapped else found[::-1]
    limit = float(epsilon_limit(hits, false_hits, counted, claim.delta, confidence))
    return Audit(claim, limit, draws, confidence, hits, false_hits)


def check_guarantee(defense: Defense, seed: int) -> list[Finding]:
    """Whether 2,000 releases of each of two neighbours refute the guarantee, at a confidence of 99.9%.

    Nothing is drawn where that could not be: without a guarantee, with an epsilon beyond ``largest_limit`` (4.87, less
    with a delta), and per coefficient or identity. A defense that refuses images without a face is let pass.

    Args:
        defense: fitted, if it learns.
        seed: any int.
    """
    claim = defense.guarantee
    if claim is None or claim.per in ("coefficient", "identity"):
        return []
    if claim.epsilon >= largest_limit(_CHECKED, claim.delta, _SURE):
        return []
    try:
        found = audit(defense, neighbours(claim), draws=_CHECKED, seed=seed, confidence=_SURE)
    except BreachError:
        return []  # It keeps the contract on faces, and need not take anything else.
    if not found.refuted:
        return []
    delta = f" at delta {claim.delta:g}" if claim.delta else ""
    least = math.floor(found.limit * 1000) / 1000  # Down, as it is a lower limit.
    message = (
        f"claims epsilon {claim.epsilon:g}{delta}, but epsilon is at least {least:.3f}: an event was seen in "
        f"{found.hits:,} of {_CHECKED // 2:,} releases of an image and in {found.false_hits:,} of a neighbour"
    )
    return [Finding("guarantee", message)]


def _limits(
    hits: FloatArray | IntArray | int, false_hits: FloatArray | IntArray | int, draws: int, confidence: float
) -> tuple[FloatArray, FloatArray]:
    """The lower limit on the probability of the hits, and the upper one, above 0, on that of the false hits."""
    seen, others = np.asarray(hits, dtype=np.float64), np.asarray(false_hits, dtype=np.float64)
    tail = (1 - confidence) / 2
    low = np.where(seen > 0, betaincinv(np.maximum(seen, 1), draws - seen + 1, tail), 0)
    high = np.where(others < draws, betaincinv(others + 1, np.maximum(draws - others, 1), 1 - tail), 1)
    return low, high


def _releases(defense: Defense, image: ByteArray, count: int, generator: torch.Generator) -> Iterator[ByteArray]:
    """Independent releases of one image, uint8 (at most _BATCH, values)."""
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        batch = np.repeat(image[None], size, axis=0)
        yield protect_once(defense, batch, generator, ["a neighbour"] * size).reshape(size, -1)


def _turned(values: FloatArray, swapped: bool) -> FloatArray:
    return -values if swapped else values


def _choice(first: FloatArray, second: FloatArray, delta: float, confidence: float) -> tuple[int, float, bool]:
    """Which of the statistics, (statistics, n) of each neighbour; its threshold; whether the first is the likelier."""
    best, answer, draws = -math.inf, (0, 0.0, False), first.shape[1]
    for index, pair in enumerate(zip(first, second, strict=True)):
        for swapped in (False, True):
            likely, rare = (np.sort(_turned(side, swapped)) for side in (pair if swapped else pair[::-1]))
            thresholds = np.unique(np.quantile(np.concatenate([likely, rare]), np.linspace(0, 1, _THRESHOLDS)))
            hits, false_hits = (draws - np.searchsorted(side, thresholds, side="left") for side in (likely, rare))
            low, high = _limits(hits, false_hits, draws, confidence)
            excess = low - delta - high  # Where no event gives a limit above 0, the one that comes nearest is taken.
            scores = np.where(excess > 0, np.log1p(np.maximum(excess, 0) / high), excess)
            at = int(scores.argmax())
            if scores[at] > best:
                best, answer = float(scores[at]), (index, float(thresholds[at]), swapped)
    return answer


def _statistics(first: ByteArray, second: ByteArray) -> list[Statistic]:
    """Statistics fitted to releases of the two neighbours, uint8 (n, values) each."""
    columns = _distinct(np.concatenate([first, second]))
    first, second = first[:, columns], second[:, columns]
    apart = np.zeros(len(columns))
    for level in range(16):
        apart += np.abs((first // 16 == level).mean(0) - (second // 16 == level).mean(0))
    order = np.argsort(-apart, kind="stable")
    statistics = [_projection(columns, second.mean(0) - first.mean(0))]
    for top in (order[:count] for count in _SUMMED if count <= len(order)):
        statistics.append(_log_likelihood(columns[top], first[:, top], second[:, top]))
    return statistics


def _distinct(releases: ByteArray) -> IntArray:
    """Indices of the released values, (n, values), without those that always equal another."""
    weights = np.random.RandomState(0).randint(0, 2**62, size=len(releases))
    sums = np.zeros(releases.shape[1], dtype=np.int64)  # Integers wrap around: equal columns have equal sums.
    for start in range(0, len(releases), _BATCH):
        sums += weights[start : start + _BATCH] @ releases[start : start + _BATCH].astype(np.int64)
    return np.sort(np.unique(sums, return_index=True)[1])


def _projection(columns: IntArray, direction: FloatArray) -> Statistic:
    """Onto the difference of the means: the best there is for Gaussian noise that is alike in all directions."""
    return lambda releases: np.asarray(releases[:, columns] @ direction)


def _log_likelihood(columns: IntArray, first: ByteArray, second: ByteArray) -> Statistic:
    """The log-likelihood ratio of a few values, as if they were independent."""
    tables = []
    for one, other in zip(first.T, second.T, strict=True):
        edges = np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0, 1, _BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, np.arange(256), side="right")
        counts = [np.bincount(bins[side], minlength=len(edges) + 1) + 1.0 for side in (one, other)]
        tables.append(np.log(counts[1] / counts[0])[bins])
    table = np.stack(tables)
    return lambda releases: np.asarray(table[np.arange(len(columns)), releases[:, columns]].sum(1))
