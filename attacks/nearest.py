"""Nearest auxiliary face: a control that retrieves and rebuilds nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView

from ._inverter import set_scene


class Nearest(Attack):
    """Answers with its own face whose closed-form reconstruction is most like the target's, as a mark to beat."""

    version = 1
    card = AttackCard(
        title="Nearest auxiliary face",
        family="retrieval",
        reference="control of the threat model: a reconstruction should beat the best face at hand",
        licence="MIT",
        measures="control",
        knowledge="aware",
    )

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Compare with every auxiliary image."""
        scene = set_scene(view, 64, 1)
        own, targets = scene.first.flatten(1).float(), scene.targets_first.flatten(1).float()
        distance = own.square().sum(1) - 2 * targets @ own.T
        self._chosen = distance.argmin(1).numpy()
        self.log |= {"training_images": len(own), "distinct": len(np.unique(self._chosen))}

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """The auxiliary images, uint8 (n, 3, 112, 112)."""
        return view.auxiliary.load(self._chosen)


ATTACK = Nearest
