"""Parrot: a recognizer adapted to protected images of the attacker's own people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._images import held_out

Floats = npt.NDArray[np.float64]
SHRINKAGES = (0.03, 0.3, 3.0)  # towards a round covariance, times its mean variance
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # of the map, times the mean squared length
_HELD_OUT = 0.2


class ParrotConfig(Config):
    """``images``: protected images of its own that it learns from, 0 for all; ``releases``: of each gallery photo."""

    images: int = Field(0, ge=0)
    releases: int = Field(4, ge=1, le=64)


@dataclass(frozen=True)
class _Head:
    """Embeddings of protected and of clear images into one space, compared there by cosine."""

    mean: Floats
    whiten: Floats
    map: Floats | None  # from protected to clear embeddings; None: both sides protected
    clear_mean: Floats

    def probes(self, embeddings: Floats) -> Floats:
        x = embeddings - self.mean
        return _unit((x if self.map is None else x @ self.map) @ self.whiten)

    def gallery(self, embeddings: Floats) -> Floats:
        return _unit((embeddings - (self.mean if self.map is None else self.clear_mean)) @ self.whiten)


class Parrot(Attack):
    """Protects images of its own people and learns a head on a frozen recognizer: L3.

    Two heads are learnt in closed form. One whitens what varies within a person, and compares the protected target with
    the gallery photo sent through the oracle. The other maps protected embeddings to those of the clear photos, and
    compares with the clear gallery. Their scores and the unadapted recognizer's are added, each weighted by how many
    held-out people it named.
    """

    version = 1
    card = AttackCard(
        title="Parrot: adapted recognizer",
        family="linkage",
        reference="Newton et al., IEEE TKDE 2005 (parrot recognition); Hao et al. 2019; ladder L3 of the threat model",
        licence="MIT",
        measures="identity",
        knowledge="aware",
        learned=True,
        needs_gallery=True,
        needs_recognizer=True,
        builds_on=("linkage",),
        deviations=("A closed-form head on a frozen recognizer instead of a network trained anew.",),
    )
    Config = ParrotConfig

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Learn both heads, and on held-out people which to trust."""
        assert view.recognizer is not None and view.auxiliary_protected is not None, "the card asks for both"
        count = min(self.config.images or len(view.auxiliary), len(view.auxiliary))
        identities = view.auxiliary.identities[:count]
        protected = _embed(view, np.asarray(view.auxiliary_protected[:count]))
        clear = _embed(view, view.auxiliary.load(range(count)))
        held = held_out(identities, _HELD_OUT, generator)
        held = held if held.any() else ~held  # one person only: nobody is left to judge by
        known = ~held if not held.all() else held
        found: list[tuple[float, str, float, float]] = []
        for shrinkage in SHRINKAGES:
            for strength in (None, *STRENGTHS):
                head = _fit(protected[known], clear[known], identities[known], shrinkage, strength)
                share = _named(head, protected[held], clear[held], identities[held])
                found.append((share, "both protected" if strength is None else "to clear", shrinkage, strength or 0.0))
        raw = _share_named(_unit(protected[held]) @ _unit(clear[held]).T, identities[held])
        self._heads = []
        for kind in ("both protected", "to clear"):
            share, _, shrinkage, strength = max(entry for entry in found if entry[1] == kind)
            head = _fit(protected, clear, identities, shrinkage, strength or None)
            self._heads.append((share, head))
            self.log[kind] = {"held_out_rank_1": round(share, 4), "shrinkage": shrinkage, "strength": strength}
        self.log |= {"training_images": count, "unadapted_rank_1": round(raw, 4)}
        self._raw = raw

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        """Similarities (n_targets, n_gallery): the scores of heads and recognizer, weighted by how many each named."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        probes = _embed(view, np.asarray(view.targets[0]))
        clear = _embed(view, view.gallery)
        assert view.oracle is not None
        times = self.config.releases
        protected = np.mean([_embed(view, view.oracle.protect(view.gallery)) for _ in range(times)], axis=0)
        scores = self._raw**2 * view.recognizer.similarity_matrix(_embed(view, view.targets[0]), clear)
        if (
            view.recognizer.similarity_matrix(clear[:1], clear[:1])[0, 0] <= 0
        ):  # a distance: bring it to a cosine's scale
            scores = self._raw**2 * (_unit(probes) @ _unit(clear).T)
        for share, head in self._heads:
            side = protected if head.map is None else clear
            scores = scores + share**2 * (head.probes(probes) @ head.gallery(side).T)
        return np.asarray(scores, dtype=np.float64)


def _embed(view: AttackerView, images: npt.NDArray[np.uint8]) -> Floats:
    assert view.recognizer is not None
    return np.asarray(view.recognizer.embed(images), dtype=np.float64)


def _fit(
    protected: Floats, clear: Floats, identities: npt.NDArray[np.int64], shrinkage: float, strength: float | None
) -> _Head:
    mean, clear_mean = protected.mean(0), clear.mean(0)
    x, y = protected - mean, clear - clear_mean
    mapped, linear = x, None
    if strength is not None:
        gram = x.T @ x
        scale = max(float(gram.diagonal().mean()), 1e-12)
        linear = np.linalg.solve(gram + strength * scale * np.eye(len(gram)), x.T @ y)
        mapped = y
    order = np.argsort(identities, kind="stable")
    people, starts = np.unique(identities[order], return_index=True)
    means = np.add.reduceat(mapped[order], starts, axis=0) / np.diff([*starts, len(order)])[:, None]
    within = mapped[order] - means[np.searchsorted(people, identities[order])]
    covariance = within.T @ within / max(len(within) - len(people), 1)
    scale = max(float(covariance.diagonal().mean()), 1e-12)
    values, vectors = np.linalg.eigh(covariance + shrinkage * scale * np.eye(len(covariance)))
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    return _Head(mean, whiten, linear, clear_mean)


def _named(head: _Head, protected: Floats, clear: Floats, identities: npt.NDArray[np.int64]) -> float:
    side = protected if head.map is None else clear
    return _share_named(head.probes(protected) @ head.gallery(side).T, identities)


def _share_named(scores: Floats, identities: npt.NDArray[np.int64]) -> float:
    """Share of images whose most alike other image is of the same person; a tie counts as chance."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    same = identities[:, None] == identities[None, :]
    np.fill_diagonal(same, False)
    best = scores >= scores.max(axis=1, keepdims=True)
    usable = same.any(axis=1)
    if not usable.any():
        return 0.0
    return float(((best & same).sum(1) / best.sum(1))[usable].mean())


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


ATTACK = Parrot
