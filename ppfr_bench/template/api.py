"""The nouns of the template track: TemplateProtection, Service and TemplateView.

Conventions: an embedding is float64 (n, d), rows of unit length. What is released of it is float64 (n, k): a template
of any length, or the residues of a ciphertext as numbers in [-1/2, 1/2).

A system has one key, which all its people share. An impostor who is compared under the key of another person would be
rejected for the key and not for the face (the "stolen token" of the literature), so no accuracy here is borrowed from
keys. What is measured of keys is what a second system, with a key of its own, gives away.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import AttackerView, FloatArray, Method
from ppfr_bench.errors import UserError
from ppfr_bench.learning.heads import unit_rows

__all__ = ["Cost", "Key", "Service", "TemplateProtection", "TemplateView", "checked", "numpy_generator", "unit_rows"]

Key = Mapping[str, npt.NDArray[Any]]
BoolArray = npt.NDArray[np.bool_]
TOLERANCE = 1e-3  # The length of an embedding may differ from 1 by so much.


@dataclass(frozen=True)
class Cost:
    """What one search of a gallery takes.

    Attributes:
        up, down: bytes that the client sends and receives.
        rounds: messages that wait for one another.
        stored: bytes that the matcher keeps.
    """

    up: int
    down: int
    rounds: int
    stored: int


class TemplateProtection(Method):
    """Protects templates: a row of the template track.

    ``protect`` and ``compare`` are all that is required of a method that transforms templates. One that encrypts
    defines ``score`` and ``decide`` as well, for nobody compares its releases without the client's secret key.

    Attributes:
        reveals_scores: whether who asks learns the similarity to each template, and not the decision alone.
        stored_in_clear: whether the matcher keeps the templates that it searches unprotected.
    """

    reveals_scores: ClassVar[bool] = False
    stored_in_clear: ClassVar[bool] = False

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """The key of a system whose embeddings have so many numbers. Default: none is needed.

        Raises:
            UserError: it cannot protect embeddings of that length.
        """
        return {}

    @abstractmethod
    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Unit rows (n, d) -> what is released, (n, k).

        It is what the matcher stores and is sent; of an encrypted method, what it is sent.

        Raises:
            UserError: embeddings of another length than the key's, or not of unit length.
        """

    @abstractmethod
    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Releases row by row, (m, k) and (m, k) -> (m,), larger is more alike: all that can be done without a key."""

    def score(self, probes: FloatArray, references: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """What the system computes of clear embeddings, row by row, (m, d) and (m, d) -> (m,).

        A decision accepts where this is at least the threshold. Default: ``compare`` of the releases.
        """
        return self.compare(self.protect(probes, key, generator), self.protect(references, key, generator))

    def decide(
        self, probes: FloatArray, references: FloatArray, thresholds: FloatArray, key: Key, generator: torch.Generator
    ) -> BoolArray:
        """The decisions of the system as it runs, bool (m,). Default: ``score`` at the ``thresholds`` (m,)."""
        return np.asarray(self.score(probes, references, key, generator) >= thresholds)

    def cost(self, dimension: int, gallery: int, key: Key, generator: torch.Generator) -> Cost:
        """Of a search. Default: the client sends the released numbers in 4 bytes each, and one byte comes back."""
        numbers = self.protect(np.eye(1, dimension), key, generator).shape[1]
        return Cost(4 * numbers, 1, 1, 4 * numbers * gallery)


def checked(embeddings: npt.ArrayLike, dimension: int | None = None) -> FloatArray:
    """Embeddings float64 (n, d).

    Args:
        dimension: that of the key; None where any will do.

    Raises:
        UserError: they are of another shape or length, or not finite.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2:
        raise UserError(f"expected embeddings (n, d), got {rows.shape}", "Give one row a face:  embeddings[None]")
    if dimension is not None and rows.shape[1] != dimension:
        raise UserError(
            f"the key is of templates of {dimension} numbers, got templates of {rows.shape[1]}",
            "Make a key for these:  method.new_key(embeddings.shape[1], generator)",
        )
    lengths = np.linalg.norm(rows, axis=1)
    if not (np.abs(lengths - 1) <= TOLERANCE).all():  # NaN fails it too.
        worst = int(np.argmax(np.where(np.isfinite(lengths), np.abs(lengths - 1), np.inf)))
        raise UserError(
            f"expected templates of length 1, got one of {lengths[worst]:.4g} (row {worst})",
            "Divide each by its length first:  ppfr_bench.template.api.unit_rows(embeddings)",
        )
    return rows


def part_of(key: Key, name: str) -> npt.NDArray[Any]:
    """One array of a key.

    Raises:
        UserError: the key is of another method.
    """
    if name not in key:
        raise UserError(
            f"expected a key with '{name}', got one with {', '.join(sorted(key)) or 'nothing'}",
            "Make it with new_key of the same method.",
        )
    return key[name]


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """A NumPy generator whose seed is the next draw of ``generator``."""
    return np.random.default_rng(int(torch.randint(0, 2**63 - 1, (1,), generator=generator)))


class Service:
    """The matcher as whoever asks it sees it: probes go in, a decision comes out, and it counts.

    It computes what the system's decision amounts to. That a protocol decides the same is measured with the utility.

    Args:
        scores: (rows of targets, probes (m, d)) -> (m,).
        threshold: from which on it accepts.
        reveals_scores: whether it gives the scores away.
        targets: how many people may be claimed.
        dimension: of an embedding.
    """

    def __init__(
        self, scores: Callable[[npt.NDArray[np.int64], FloatArray], FloatArray], threshold: float,
        reveals_scores: bool, targets: int, dimension: int,
    ) -> None:  # fmt: skip
        self._scores, self._threshold = scores, threshold
        self.reveals_scores, self.targets, self.dimension = reveals_scores, targets, dimension
        self.queries = 0

    def accepts(self, rows: npt.NDArray[np.int64], probes: FloatArray) -> BoolArray:
        """Whether each probe (m, d) is accepted as the target of its row (m,): one query each."""
        self.queries += len(probes)
        return np.asarray(self._scores(rows, probes) >= self._threshold)

    def scores(self, rows: npt.NDArray[np.int64], probes: FloatArray) -> FloatArray:
        """The scores (m,): one query each.

        Raises:
            UserError: it gives decisions alone.
        """
        if not self.reveals_scores:
            raise UserError("this method gives a decision and no score", "Ask `accepts`; see `reveals_scores`.")
        self.queries += len(probes)
        return self._scores(rows, probes)


@dataclass(frozen=True)
class TemplateView(AttackerView):
    """What an attacker on templates sees; of the fields of ``AttackerView`` those that it is given.

    Attributes:
        released: float64 (n, k), of the targets, under the first system's key.
        released_elsewhere: float64 (g, k), of other photos of the same people, under the second system's key.
        own: float64 (m, k), of the attacker's images: under the first key, or one of its own (``key_access``).
        own_elsewhere: float64 (m, k), the same under the second key, or another of the attacker's own.
        own_embeddings: float64 (m, d), of the attacker's images, clear, by the recognizer of the system.
        gallery_embeddings: float64 (g, d), of clear photos of the targets' people, where the card says so.
        compare: releases row by row -> scores, all that can be done without a key.
        service: of the first system, where the attack asks it.
    """

    released: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    released_elsewhere: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    own: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    own_elsewhere: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    own_embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    gallery_embeddings: FloatArray | None = None
    compare: Callable[[FloatArray, FloatArray], FloatArray] | None = None
    service: Service | None = None

    @property
    def queries(self) -> int:
        """Probes that the service was asked so far."""
        return self.service.queries if self.service is not None else 0

    @property
    def target_count(self) -> int:
        """How many targets there are."""
        return len(self.released)

    @property
    def gallery_count(self) -> int:
        """How many photos of their people the second system has."""
        return len(self.released_elsewhere)
