"""No attack: look at what is released."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import Attack, AttackCard, AttackerView


class Visual(Attack):
    """Knows nothing of the defense and has no tool: the protected image itself is the reconstruction."""

    version = 1
    card = AttackCard(
        title="Looking at it",
        plain="No attack at all: someone looks at the protected image as it is.",
        family="visual",
        reference="the usual protected-against-original comparison of the field",
        licence="MIT",
        measures="appearance",
        knowledge="oblivious",
        shows_released=True,
    )

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """The first shot of every target, uint8 (n, 3, 112, 112)."""
        self.log["shots"] = 1
        return np.array(view.render(view.targets[0]))


ATTACK = Visual
