"""Nearest auxiliary face: a control that retrieves and rebuilds nothing."""

from __future__ import annotations

import numpy as np
from torch import Generator

from ppfr_bench import device
from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray, Material, Scope
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data

_SIZE = 112  # Side in pixels of what is observed; the estimates that are compared are smaller.


class Nearest(Attack):
    """Answers with its own face whose closed-form reconstruction is most like the target's, as a mark to beat."""

    version = 2
    card = AttackCard(
        title="Nearest auxiliary face",
        plain="Not a real attack. It answers with the attacker's own photo that fits the protected image best. A "
        "face that another attack rebuilds must be closer than this to count.",
        family="retrieval",
        reference="control of the threat model: a reconstruction should beat the best face at hand",
        licence="MIT",
        measures="control",
        knowledge="aware",
    )

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of one shot."""
        return (inversion_data(scope, _SIZE, 1),)

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Compare with every auxiliary image."""
        data = read_inversion_data(view, _SIZE, 1)
        own, targets = (device.to(found).flatten(1).float() for found in (data.own_estimates, data.target_estimates))
        distance = own.square().sum(1) - 2 * targets @ own.T
        self._chosen = data.rows[distance.argmin(1).cpu().numpy()]  # Faces are loaded by NumPy's indices.
        self.log |= {"shots": data.log["shots"], "training_images": len(own), "distinct": len(np.unique(self._chosen))}

    def run(self, view: AttackerView) -> ByteArray:
        """The auxiliary images, uint8 (n, 3, 112, 112)."""
        return view.auxiliary.load(self._chosen)


ATTACK = Nearest
