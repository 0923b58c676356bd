"""Ridge inversion: the best linear map from whole protected image to whole face, in closed form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._images import enlarge, held_out, shrink, shrink_faces
from ._linear import fit_linear


class RidgeConfig(Config):
    """``size``: side in pixels of what is read and rebuilt; 112 also undoes permutations of single pixels."""

    size: int = Field(56, ge=8, le=112)


class Ridge(Attack):
    """Protects its own images through the oracle and regresses them on the clear ones.

    A linear map sees the whole image at once, so it undoes any fixed permutation, which a convolution cannot.
    The strength is chosen on held-out people of the attacker's own.
    """

    version = 2
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

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Closed form over all auxiliary images."""
        assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
        size = self.config.size
        protected, clear = shrink(view.auxiliary_protected, size), shrink_faces(view.auxiliary, size)
        identities = view.auxiliary.identities
        self._map = fit_linear(protected, clear, identities, held_out(identities, 0.1, generator)).map
        self.log |= {"training_images": len(clear), "strength": self._map.strength}

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """Reconstructions from the first shot, uint8 (n, 3, 112, 112)."""
        size = self.config.size
        return enlarge(self._map(shrink(view.targets[0], size)).reshape(-1, 3, size, size))


ATTACK = Ridge
