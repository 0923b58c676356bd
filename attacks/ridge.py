"""Ridge inversion: the best closed-form map from whole protected image to whole face."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Generator

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, Config, Material, Scope
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.resizing import enlarge


class RidgeConfig(Config):
    """``size``: side in pixels of what is observed, and of what is rebuilt where that is at most 64.

    ``key``: that under which its own images are protected.
    """

    size: int = Field(112, ge=8, le=112)
    key: Literal["same", "other"] = "same"


class Ridge(Attack):
    """Protects its own images through the oracle and regresses the clear ones on them.

    A linear map sees the whole image at once, so it undoes any fixed permutation, which a convolution cannot; a
    regression at each position on its bits undoes a key that is added or xored. The kernel is chosen on held-out people
    of the attacker's own, and so is the strength of the penalty, once for each measure: squared error prefers a blur.
    """

    version = 6
    card = AttackCard(
        title="Ridge inversion",
        plain="Learns from pairs of clear and protected photos the linear formula that rebuilds the clear face "
        "best. It needs no neural network, and it undoes any fixed reordering of the pixels.",
        family="reconstruction",
        reference="ridge regression, Hoerl and Kennard 1970; as an inversion attack, threat model of this benchmark",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
    )
    Config = RidgeConfig

    @property
    def key_access(self) -> Literal["same", "other"]:
        """As the parameter says."""
        return "other" if self.config.key == "other" else "same"

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of one shot, whose estimates are the answer."""
        return (inversion_data(scope, self.config.size, 1),)

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Read the closed-form estimates, which were fitted on all auxiliary images."""
        self._data = read_inversion_data(view, self.config.size, 1)
        self.log |= self._data.log | {"training_images": len(self._data.rows)}

    def run(self, view: AttackerView) -> Answers:
        """Reconstructions from the first shot, uint8 (n, 3, 112, 112), by measure under the penalty that suits it."""
        by = {metric: enlarge(found.float() / 255) for metric, found in self._data.estimates_by.items()}
        at = {count: enlarge(found.float() / 255) for count, found in self._data.estimates_at.items()}
        main = enlarge(self._data.target_estimates.float() / 255)
        return Answers(main, by, at | {len(self._data.rows): main}, budget="images")


ATTACK = Ridge
