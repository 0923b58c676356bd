"""Hill climbing where nothing limits the queries."""

from __future__ import annotations

from pydantic import Field

from .hill_climbing import HillClimbing, HillClimbingConfig


class HillClimbingUnlimitedConfig(HillClimbingConfig):
    """``queries``: as many as the budget of the run allows."""

    queries: int = Field(2500, ge=1)


class HillClimbingUnlimited(HillClimbing):
    """As ``hill_climbing``; what it regains sets a privacy of its own, which is not scored."""

    version = 1
    card = HillClimbing.card.model_copy(
        update={
            "title": "Hill climbing, no limit", "measures": "asked_template_unlimited", "builds_on": ("hill_climbing",)
        }
    )  # fmt: skip
    Config = HillClimbingUnlimitedConfig


ATTACK = HillClimbingUnlimited
