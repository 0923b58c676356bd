"""Unshuffle: the key that was drawn for each image is solved, as only the right one makes a face of it."""

from __future__ import annotations

import numpy as np
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray, Material, Scope
from ppfr_bench.learning.image_keys import LOOKED_AT, read_undone, undone


class Unshuffle(Attack):
    """Finds out on its own images what kind of key changes an image, and undoes each target's by what faces look like.

    Kinds: tiles, rows or columns that change places; quarter turns, mirrors, channel orders and inversions, of the
    image or of each tile in its place; cyclic shifts; numbers that are added to all pixels or xored with them. Where no
    such key explains what is released, the release is the answer. All other attacks that rebuild faces start from what
    is undone here.
    """

    version = 3
    card = AttackCard(
        title="Unshuffling by content",
        plain="Solves scrambled images like a jigsaw puzzle. It learns the kind of scrambling from its own photos "
        "and then tries keys until the pieces form a face.",
        family="keyed",
        reference="jigsaw solving, Gallagher, CVPR 2012; graduated assignment, Gold and Rangarajan, IEEE TPAMI 1996",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        deviations=("Solved in closed form and by annealing, without a trained network.",),
    )

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The releases of one shot with their keys undone."""
        return (undone(scope, 1),)

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Read what was undone."""
        self._undone = read_undone(view, 1)
        self.log |= {"shots": 1, "training_images": 0 if self._undone is None else min(len(view.auxiliary), LOOKED_AT)}
        if self._undone is not None:
            self.log["undone"] = self._undone.name

    def run(self, view: AttackerView) -> ByteArray:
        """The first shot of every target with its key undone, uint8 (n, 3, 112, 112)."""
        if self._undone is not None:
            return np.asarray(self._undone.targets[0])
        return np.array(view.render(view.targets[0]))


ATTACK = Unshuffle
