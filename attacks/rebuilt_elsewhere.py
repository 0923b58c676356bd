"""Rebuilt elsewhere: faces that an attack outside this benchmark has rebuilt from the releases of one row."""

from __future__ import annotations

import numpy as np

from ppfr_bench.api import AttackCard, AttackerView, ByteArray
from ppfr_bench.learning.made_elsewhere import MadeElsewhere


class RebuiltElsewhere(MadeElsewhere):
    """Knows what its author knew; of another row's releases it rebuilds nothing and shows them as they are."""

    version = 1
    card = AttackCard(
        title="Rebuilt elsewhere",
        plain="Faces that an attack outside this benchmark has rebuilt from the protected images of one defense. "
        "The benchmark only scores them.",
        family="adapter",
        reference="faces that another tool rebuilt",
        licence="that of the tool",
        measures="reconstruction",
        knowledge="oblivious",
        live=False,
    )

    def without_answers(self, view: AttackerView) -> ByteArray:
        """The first release of every target, uint8 (n, 3, 112, 112)."""
        return np.array(view.render(view.targets[0]))


ATTACK = RebuiltElsewhere
