"""Heads in closed form, which adapt the embeddings of a frozen recognizer to protected images.

NumPy fits them on the CPU: embeddings are few, and in float64, which not every device has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import FloatArray, IntArray
from ppfr_bench.learning.validation import validation_mask

SHRINKAGES = (0.03, 0.3, 3.0)  # A covariance is drawn so far towards a round one of its mean variance.
MAP_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # The same, on what a map differs from the identity in.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # The penalty on a map is this times the mean squared length.
HEAD_VALIDATION_SHARE = 0.2  # This share of the people chooses between heads.


@dataclass(frozen=True)
class Head:
    """Maps embeddings of protected images and of their counterparts into one space, compared there by cosine.

    Attributes:
        mean: float64 (d,), of the protected embeddings.
        whiten: float64 (d, d), whitens what varies within a person.
        map: float64 (d, d), from protected to clear embeddings; None where both sides are protected.
        clear_mean: float64 (d,), of the clear embeddings.
    """

    mean: FloatArray
    whiten: FloatArray
    map: FloatArray | None
    clear_mean: FloatArray

    def probes(self, embeddings: FloatArray) -> FloatArray:
        """Embeddings of protected images, (n, d) -> unit rows (n, d)."""
        x = embeddings - self.mean
        return unit_rows((x if self.map is None else x @ self.map) @ self.whiten)

    def gallery(self, embeddings: FloatArray) -> FloatArray:
        """Embeddings of the other side's images, (n, d), clear where there is a map -> unit rows (n, d)."""
        return unit_rows((embeddings - (self.mean if self.map is None else self.clear_mean)) @ self.whiten)


@dataclass(frozen=True)
class HeadChoice:
    """A head that was chosen on held-out people.

    Attributes:
        head: fitted on everybody.
        share: of the held-out images, those whose person it named, 0 to 1.
        note: for the record.
    """

    head: Head
    share: float
    note: dict[str, float]


def head_validation_mask(identities: IntArray, generator: torch.Generator) -> npt.NDArray[np.bool_]:
    """bool (n,), True for the images of a fifth of the people, who choose between heads; for all, of one person."""
    mask = validation_mask(identities, HEAD_VALIDATION_SHARE, generator)
    return mask if mask.any() else ~mask


def choose_head(
    protected: FloatArray, clear: FloatArray, identities: IntArray, validation: npt.NDArray[np.bool_], to_clear: bool
) -> HeadChoice:
    """The head that names most of the held-out people, then fitted on everybody.

    Args:
        protected: float64 (n, d), embeddings of protected images.
        clear: float64 (n, d), embeddings of the same images, clear.
        identities: int64 (n,).
        validation: bool (n,), of ``head_validation_mask``.
        to_clear: whether protected embeddings are mapped to clear ones first, and compared with those; otherwise
            protected is compared with protected.
    """
    known = ~validation if not validation.all() else validation
    side = clear if to_clear else protected
    mean, clear_mean = protected[known].mean(0), clear[known].mean(0)
    x, y = protected[known] - mean, clear[known] - clear_mean
    maps = {strength: _map(x, y, strength) for strength in STRENGTHS} if to_clear else {0.0: None}
    found: list[tuple[float, float, float]] = []
    for shrinkage in SHRINKAGES:
        whiten = _whitening(y if to_clear else x, identities[known], shrinkage)
        for strength, linear in maps.items():
            head = Head(mean, whiten, linear, clear_mean)
            scores = head.probes(protected[validation]) @ head.gallery(side[validation]).T
            found.append((share_named(scores, identities[validation]), shrinkage, strength))
    share, shrinkage, strength = max(found)
    head = fit_head(protected, clear, identities, shrinkage, strength)
    return HeadChoice(head, share, {"held_out_rank_1": round(share, 4), "shrinkage": shrinkage, "strength": strength})


def fit_head(protected: FloatArray, clear: FloatArray, identities: IntArray, shrinkage: float, strength: float) -> Head:
    """Fit one head.

    It stays with NumPy on the CPU: torch calls another LAPACK, which would change the last bits.

    Args:
        protected: float64 (n, d), embeddings of protected images.
        clear: float64 (n, d), embeddings of the same images, clear.
        identities: int64 (n,).
        shrinkage: of the covariance within a person, see ``SHRINKAGES``.
        strength: of the penalty on the map to the clear side, see ``STRENGTHS``; 0 for no map.
    """
    mean, clear_mean = protected.mean(0), clear.mean(0)
    x, y = protected - mean, clear - clear_mean
    linear = _map(x, y, strength) if strength else None
    return Head(mean, _whitening(y if strength else x, identities, shrinkage), linear, clear_mean)


def _map(x: FloatArray, y: FloatArray, strength: float) -> FloatArray:
    """The ridge regression (d, d) of centred rows on centred rows."""
    gram = x.T @ x
    scale = max(float(gram.diagonal().mean()), 1e-12)
    return np.asarray(np.linalg.solve(gram + strength * scale * np.eye(len(gram)), x.T @ y))


def _whitening(mapped: FloatArray, identities: IntArray, shrinkage: float) -> FloatArray:
    """Whitens (d, d) what varies within a person, of centred rows (n, d)."""
    order = np.argsort(identities, kind="stable")
    people, starts = np.unique(identities[order], return_index=True)
    means = np.add.reduceat(mapped[order], starts, axis=0) / np.diff([*starts, len(order)])[:, None]
    within = mapped[order] - means[np.searchsorted(people, identities[order])]
    covariance = within.T @ within / max(len(within) - len(people), 1)
    scale = max(float(covariance.diagonal().mean()), 1e-12)
    values, vectors = np.linalg.eigh(covariance + shrinkage * scale * np.eye(len(covariance)))
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def share_named(scores: FloatArray, identities: IntArray) -> float:
    """Share of images whose most similar other image is of the same person; a tie counts as chance.

    Args:
        scores: float64 (n, n), larger is more alike; the diagonal is not looked at.
        identities: int64 (n,); people with one image are left out, and the share of nobody is 0.
    """
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    same = identities[:, None] == identities[None, :]
    np.fill_diagonal(same, False)
    best = scores >= scores.max(axis=1, keepdims=True)
    usable = same.any(axis=1)
    if not usable.any():
        return 0.0
    return float(((best & same).sum(1) / best.sum(1))[usable].mean())


def trust(share: float, identities: IntArray) -> float:
    """How much scores count beside others: the share that they named squared; 1 where nobody has two images.

    Args:
        share: by ``share_named``.
        identities: of the images that it is of.
    """
    return share**2 if len(np.unique(identities)) < len(identities) else 1.0


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows of length 1, (n, d) -> (n, d); a row of zeros stays."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True)
class EmbeddingMap:
    """Takes embeddings of protected images to those of the clear ones, as far as they tell of them.

    Attributes:
        center: float64 (d,), of the protected embeddings.
        matrix: float64 (d, d).
        mean: float64 (d,), of the clear embeddings.
    """

    center: FloatArray
    matrix: FloatArray
    mean: FloatArray

    def __call__(self, embeddings: FloatArray) -> FloatArray:
        """(n, d) -> (n, d), the shorter the less they tell."""
        return np.asarray(self.mean + (embeddings - self.center) @ self.matrix)


def choose_embedding_map(
    protected: FloatArray, clear: FloatArray, validation: npt.NDArray[np.bool_]
) -> tuple[EmbeddingMap, FloatArray, dict[str, float]]:
    """The map with the least squared error on the held-out people, then fitted on everybody.

    Args:
        protected: float64 (n, d), embeddings of protected images.
        clear: float64 (n, d), embeddings of the same images, clear.
        validation: bool (n,), True for the images of the people who choose.

    Returns:
        The map; float64 (m, d), what it makes of the held-out images where it was fitted without them; and a note for
        the record. Where nobody is held out, everybody's images stand for theirs.
    """
    known = ~validation if not validation.all() else validation
    held_out = validation if validation.any() else known
    fitted = {strength: fit_embedding_map(protected[known], clear[known], strength) for strength in MAP_STRENGTHS}
    answers = {strength: one(protected[held_out]) for strength, one in fitted.items()}
    best = min(answers, key=lambda strength: float(np.square(answers[strength] - clear[held_out]).mean()))
    cosines = (unit_rows(answers[best]) * unit_rows(clear[held_out])).sum(1)
    note = {"held_out_cosine": round(float(cosines.mean()), 4), "strength": best}
    return fit_embedding_map(protected, clear, best), answers[best], note


def fit_embedding_map(protected: FloatArray, clear: FloatArray, strength: float) -> EmbeddingMap:
    """Ridge regression that is drawn towards the multiple of the identity that fits best, instead of towards 0.

    A few hundred pairs are enough, as only what the defense changes for the recognizer has to be learnt. Where nothing
    is protected it is the identity.

    Args:
        protected: float64 (n, d), embeddings of protected images.
        clear: float64 (n, d), embeddings of the same images, clear.
        strength: of the penalty, see ``MAP_STRENGTHS``.
    """
    center, mean = protected.mean(0), clear.mean(0)
    x, y = protected - center, clear - mean
    multiple = float((x * y).sum() / max(float((x * x).sum()), 1e-12))
    gram, unit = x.T @ x, np.eye(x.shape[1])
    scale = max(float(gram.diagonal().mean()), 1e-12)
    matrix = np.linalg.solve(gram + strength * scale * unit, x.T @ (y - multiple * x)) + multiple * unit
    return EmbeddingMap(center, matrix, mean)
