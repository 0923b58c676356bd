"""Ridge inversion: the best closed-form map from whole protected image to whole face."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._images import enlarge
from ._inverter import set_scene


class RidgeConfig(Config):
    """``size``: side in pixels of what is read and rebuilt; ``key``: that under which its own images are protected."""

    size: int = Field(64, ge=8, le=112)
    key: Literal["same", "other"] = "same"


class Ridge(Attack):
    """Protects its own images through the oracle and regresses the clear ones on them.

    A linear map sees the whole image at once, so it undoes any fixed permutation, which a convolution cannot; a
    regression at each position on its bits undoes a key that is added or xored. Kernel and strength are chosen on
    held-out people of the attacker's own.
    """

    version = 3
    card = AttackCard(
        title="Ridge inversion",
        family="reconstruction",
        reference="ridge regression, Hoerl and Kennard 1970; as an inversion attack, threat model of this benchmark",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
    )
    Config = RidgeConfig

    @property
    def key(self) -> Literal["same", "other"]:
        """As the parameter says."""
        return "other" if self.config.key == "other" else "same"

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Closed form over all auxiliary images."""
        self._scene = set_scene(view, self.config.size, 1)
        self.log |= self._scene.log

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """Reconstructions from the first shot, uint8 (n, 3, 112, 112)."""
        return enlarge(self._scene.targets_first.float() / 255)


ATTACK = Ridge
