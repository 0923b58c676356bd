"""Unlinkability: do two releases of one person, from two photos, give away that they belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import Attack, AttackCard, AttackerView


class Unlinkability(Attack):
    """Holds two protected collections of the same people, and compares them with an off-the-shelf recognizer: L2.

    What it measures is the utility too, where protected images are to be matched with each other: it is shown beside
    the privacy and sets none.
    """

    version = 1
    card = AttackCard(
        title="Unlinkability of two releases",
        plain="Holds two protected photo collections of the same people, and finds out with an ordinary face "
        "recognizer which two images show the same person.",
        family="unlinkability",
        reference="Gomez-Barrero et al., IEEE TIFS 2018; ISO/IEC 24745, 30136; ladder L2 of the threat model",
        licence="MIT",
        measures="unlinkability",
        knowledge="oblivious",
        needs_recognizer=True,
        needs_protected_gallery=True,
    )

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        """Similarities (n_targets, n_gallery) of protected with protected."""
        assert view.recognizer is not None and view.protected_gallery is not None, "the card asks for both"
        self.log["shots"] = 1
        embed = view.recognizer.embed
        probes, gallery = view.render(view.targets[0]), view.render(np.asarray(view.protected_gallery))
        return view.recognizer.similarity_matrix(embed(probes), embed(gallery))


ATTACK = Unlinkability
