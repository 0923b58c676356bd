"""Square attack: random patches instead of gradients, which no masking of gradients stops."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Generator

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config
from ppfr_bench.robustness.api import RobustnessView
from ppfr_bench.robustness.evasion import AveragedOverNoise, changes_by_budget
from ppfr_bench.robustness.square import square_search


class SquareConfig(Config):
    """``budgets``: l2 norms of the change, rising; ``steps``: patches tried within each; ``draws`` of noise a look."""

    goal: Literal["dodging", "impersonation"] = "dodging"
    budgets: tuple[float, ...] = (8.0,)
    steps: int = Field(250, ge=1)
    draws: int = Field(4, ge=1)
    batch: int = Field(32, ge=1)


class Square(Attack):
    """Asks the hardened recognizer for probabilities alone, and keeps the random patches that lower the right one."""

    version = 2
    card = AttackCard(
        title="Square attack",
        plain="Changes random square patches of a photo and keeps the changes that make the recognizer less sure of"
        " the right person. It sees only the recognizer's answers, not how it works.",
        family="evasion",
        reference="Andriushchenko et al., ECCV 2020",
        licence="MIT",
        measures="evasion_larger_changes",
        knowledge="aware",
        tracks=("robustness",),
        code_url="https://github.com/max-andr/square-attack",
        deviations=(
            "250 patches instead of 10,000, the first 250 of the paper's schedule: within an l2 norm of 1, at which "
            "descent works, so few turn no decision; so it is told of an l2 norm of 8.",
            "Each photo has patches at places of its own; the authors' code moves all photos alike.",
            "Of a recognizer that draws noise, a patch that seems better is looked at twice.",
        ),
    )
    Config = SquareConfig

    def fit(self, view: AttackerView | RobustnessView, generator: Generator) -> None:
        """Nothing to learn; what it draws is drawn from this generator."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        self._generator = generator

    def run(self, view: AttackerView | RobustnessView) -> npt.NDArray[np.float16]:
        """Changes float16 (budgets, n, 3, 112, 112)."""
        assert isinstance(view, RobustnessView), "its track gives it this view"
        config = self.config
        model = AveragedOverNoise(view.hardened, config.draws, self._generator)
        search, looks = square_search(
            model, config.goal == "impersonation", config.steps, self._generator, noisy=view.hardened.random
        )
        found = changes_by_budget(view, search, config.budgets, config.goal, config.batch, self._generator)
        self.log |= {"shots": 1, "looks": looks()}
        return found


ATTACK = Square
