"""Parrot: a recognizer adapted to protected images of the attacker's own people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, ByteArray, Config, FloatArray, IntArray
from ppfr_bench.learning.heads import Head, choose_head, head_validation_mask, share_named, trust, unit_rows

_PARTS = (4, 2)  # It also learns from its images divided by each of these,
_FEWEST = 64  # if there are so many.


@dataclass(frozen=True)
class _Adapted:
    """Two heads, each with its weight, that of the unadapted recognizer, and the share of held-out people it named."""

    heads: tuple[tuple[float, Head], ...]
    weight: float
    unadapted: float
    note: dict[str, dict[str, float]]


class ParrotConfig(Config):
    """``images``: protected images of its own that it learns from, 0 for all; ``releases``: of each gallery photo."""

    images: int = Field(0, ge=0)
    releases: int = Field(4, ge=1, le=64)


class Parrot(Attack):
    """Protects images of its own people and learns a head on a frozen recognizer, which is given rendered images: L3.

    Two heads are learnt in closed form. One whitens what varies within a person, and compares the protected target with
    the gallery photo sent through the oracle. The other maps protected embeddings to those of the clear photos, and
    compares with the clear gallery. Their scores and the unadapted recognizer's are added, each weighted by how many
    held-out people it named.
    """

    version = 3
    card = AttackCard(
        title="Parrot: adapted recognizer",
        plain="Has photos of other people protected by the same defense, and adapts a face recognizer to them. Then"
        " it names the person on the protected image from clear photos of known people.",
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
        protected = _embed(view, view.render(np.asarray(view.auxiliary_protected[:count])))
        clear, identities = _embed(view, view.auxiliary.load(range(count))), view.auxiliary.identities[:count]
        whole = _adapted(protected, clear, identities, generator)
        self._at = {count: whole}
        for part in (count // divisor for divisor in _PARTS if count // divisor >= _FEWEST):
            rows = np.linspace(0, count - 1, part).astype(np.int64)
            self._at[part] = _adapted(protected[rows], clear[rows], identities[rows], generator)
        self.log |= whole.note
        self.log |= {"shots": 1, "training_images": count, "unadapted_rank_1": round(whole.unadapted, 4)}
        self._count = count

    def run(self, view: AttackerView) -> Answers:
        """Similarities (n_targets, n_gallery): the scores of heads and recognizer, weighted by how many each named."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        probes = _embed(view, view.render(np.asarray(view.targets[0])))
        clear = _embed(view, view.gallery)
        assert view.oracle is not None
        times = self.config.releases
        drawn = [_embed(view, view.render(view.oracle.protect(view.gallery))) for _ in range(times)]
        protected = np.mean(drawn, axis=0)
        plain = view.recognizer.similarity_matrix(probes, clear)
        if view.recognizer.similarity_matrix(clear[:1], clear[:1])[0, 0] <= 0:
            # A recognizer that compares by distance is compared by cosine here, to have the scale of the heads.
            plain = unit_rows(probes) @ unit_rows(clear).T

        def scores(adapted: _Adapted) -> FloatArray:
            found = adapted.weight * plain
            for weight, head in adapted.heads:
                side = protected if head.map is None else clear
                found = found + weight * (head.probes(probes) @ head.gallery(side).T)
            return np.asarray(found, dtype=np.float64)

        parts = {count: scores(adapted) for count, adapted in self._at.items() if count < self._count}
        return Answers(scores(self._at[self._count]), at=parts, budget="images")


def _adapted(protected: FloatArray, clear: FloatArray, identities: IntArray, generator: Generator) -> _Adapted:
    mask = head_validation_mask(identities, generator)
    unadapted = share_named(unit_rows(protected[mask]) @ unit_rows(clear[mask]).T, identities[mask])
    heads, note = [], {}
    for kind in ("both protected", "to clear"):
        choice = choose_head(protected, clear, identities, mask, kind == "to clear")
        heads.append((trust(choice.share, identities[mask]), choice.head))
        note[kind] = choice.note
    return _Adapted(tuple(heads), trust(unadapted, identities[mask]), unadapted, note)


def _embed(view: AttackerView, images: ByteArray) -> FloatArray:
    assert view.recognizer is not None
    return np.asarray(view.recognizer.embed(images), dtype=np.float64)


ATTACK = Parrot
