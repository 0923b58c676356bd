"""Hill climbing where nothing limits the queries."""

from __future__ import annotations

from pydantic import Field

from ppfr_bench.api import AttackCard

from .hill_climbing import HillClimbing, HillClimbingConfig


class HillClimbingUnlimitedConfig(HillClimbingConfig):
    """``queries``: as many as the budget of the run allows."""

    queries: int = Field(2500, ge=1)


class HillClimbingUnlimited(HillClimbing):
    """As ``hill_climbing``; what it regains sets a privacy of its own, which is not scored."""

    version = 1
    card = AttackCard(
        title="Hill climbing, no limit",
        plain="Sends made-up face templates to a live recognition service and works out the stored template from "
        "the answers. Nothing limits the number of questions.",
        family="oracle",
        reference="Adler, 2004; Galbally et al., 2010; bisection on the sphere: ppfr-bench",
        licence="MIT",
        measures="asked_template_unlimited",
        knowledge="aware",
        needs_recognizer=True,
        tracks=("template",),
        builds_on=("hill_climbing",),
    )
    Config = HillClimbingUnlimitedConfig


ATTACK = HillClimbingUnlimited
