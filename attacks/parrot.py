"""Parrot: a recognizer adapted to protected images of the attacker's own people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._adaptation import Floats, choose_head, judges, share_named, unit


class ParrotConfig(Config):
    """``images``: protected images of its own that it learns from, 0 for all; ``releases``: of each gallery photo."""

    images: int = Field(0, ge=0)
    releases: int = Field(4, ge=1, le=64)


class Parrot(Attack):
    """Protects images of its own people and learns a head on a frozen recognizer, which is given pictures: L3.

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
        protected = _embed(view, view.picture(np.asarray(view.auxiliary_protected[:count])))
        clear = _embed(view, view.auxiliary.load(range(count)))
        held = judges(identities, generator)
        raw = share_named(unit(protected[held]) @ unit(clear[held]).T, identities[held])
        self._heads = []
        for kind in ("both protected", "to clear"):
            choice = choose_head(protected, clear, identities, held, kind == "to clear")
            self._heads.append((choice.share, choice.head))
            self.log[kind] = choice.note
        self.log |= {"training_images": count, "unadapted_rank_1": round(raw, 4)}
        self._raw = raw

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        """Similarities (n_targets, n_gallery): the scores of heads and recognizer, weighted by how many each named."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        probes = _embed(view, view.picture(np.asarray(view.targets[0])))
        clear = _embed(view, view.gallery)
        assert view.oracle is not None
        times = self.config.releases
        drawn = [_embed(view, view.picture(view.oracle.protect(view.gallery))) for _ in range(times)]
        protected = np.mean(drawn, axis=0)
        scores = self._raw**2 * view.recognizer.similarity_matrix(probes, clear)
        if (
            view.recognizer.similarity_matrix(clear[:1], clear[:1])[0, 0] <= 0
        ):  # a distance: bring it to a cosine's scale
            scores = self._raw**2 * (unit(probes) @ unit(clear).T)
        for share, head in self._heads:
            side = protected if head.map is None else clear
            scores = scores + share**2 * (head.probes(probes) @ head.gallery(side).T)
        return np.asarray(scores, dtype=np.float64)


def _embed(view: AttackerView, images: npt.NDArray[np.uint8]) -> Floats:
    assert view.recognizer is not None
    return np.asarray(view.recognizer.embed(images), dtype=np.float64)


ATTACK = Parrot
