"""Projected gradient descent: the change of a photo that makes a hardened recognizer decide otherwise."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config
from ppfr_bench.robustness.api import RobustnessView
from ppfr_bench.robustness.evasion import changes_by_budget, descend


class EvasionConfig(Config):
    """``budgets``: l2 norms of the change, rising; ``draws`` of noise over which each look is averaged."""

    goal: Literal["dodging", "impersonation"] = "dodging"
    budgets: tuple[float, ...] = (0.5, 1.0, 2.0)
    steps: int = Field(20, ge=1)
    draws: int = Field(8, ge=1)
    batch: int = Field(16, ge=1)


class ProjectedGradientDescent(Attack):
    """Knows all of the hardened recognizer, and descends its expected loss over the noise within each l2 ball.

    Dodging: to be taken for nobody enrolled as oneself. Impersonation: to be taken for one other person.
    """

    version = 1
    card = AttackCard(
        title="Projected gradient descent",
        plain="Knows the hardened recognizer completely and makes small, directed changes to a photo until the "
        "recognizer gives another answer.",
        family="evasion",
        reference="Madry et al., ICLR 2018; Athalye et al., ICML 2018 (EOT); Salman et al., NeurIPS 2019; foolbox 3.3",
        licence="MIT",
        measures="evasion",
        knowledge="informed",
        tracks=("robustness",),
    )
    Config = EvasionConfig

    def fit(self, view: AttackerView | RobustnessView, generator: Generator) -> None:
        """Nothing to learn; what it draws is drawn from this generator."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self._generator = generator

    def run(self, view: AttackerView | RobustnessView) -> npt.NDArray[np.float16]:
        """Changes float16 (budgets, n, 3, 112, 112)."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        config = self.config
        search = descend(view.hardened, config.goal, config.steps, config.draws, self._generator)
        self.log["shots"] = 1
        return changes_by_budget(view, search, config.budgets, config.goal, config.batch, self._generator)


ATTACK = ProjectedGradientDescent
