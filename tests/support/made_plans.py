"""Plans of suites on data of which only the revision is known, and what differs between two plans."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ppfr_bench import registry
from ppfr_bench.api import Attack
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.stages.spec import Stage
from ppfr_bench.suites import Suite, load_suite


def plan_of(suite: str | Suite, *overrides: str, revision: str = "r", **options: Any) -> Plan:
    """The plan of a suite on data of which only the revision is known."""
    loaded = load_suite(suite, overrides) if isinstance(suite, str) else suite
    data: Any = SimpleNamespace(version=1, revision=revision, card=SimpleNamespace(real_people=False))
    return make_plan(loaded, data, **options)


Slot = tuple[str, str, str, str]


def slot(cell: Cell) -> Slot:
    parts = (cell.attack.label if cell.attack else "", cell.recognizer.label if cell.recognizer else "")
    return cell.defense.label, cell.kind, *parts


def keys(plan: Plan) -> dict[Slot, str]:
    """The key of each cell."""
    found = {slot(cell): cell.key for cell in plan.cells}
    assert len(found) == len(plan.cells)
    return found


def changed(before: Plan, now: Plan) -> set[Slot]:
    """The cells whose keys are others; both plans have the same cells."""
    then, new = keys(before), keys(now)
    assert then.keys() == new.keys()
    return {cell for cell in then if then[cell] != new[cell]}


def new_stages(before: Plan, now: Plan) -> set[str]:
    """Kinds of the stages that the first plan does not have."""
    known = {stage.key for stage in before.stages}
    return {stage.kind for stage in now.stages if stage.key not in known}


def answer_of(plan: Plan, defense: str, attack: str) -> Stage:
    """The stage in which an attack answers."""
    found = [cell for cell in plan.cells if (cell.defense.label, slot(cell)[2]) == (defense, attack)]
    return found[0].inputs["attack"]


def attack_of(spec: Mapping[str, Any]) -> Attack:
    """The attack of a stage's spec."""
    found: Attack = registry.build("attack", spec["name"], spec["config"])
    return found
