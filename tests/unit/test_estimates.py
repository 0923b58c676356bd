"""What a run says of the time that is left."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from ppfr_bench.runner import estimates
from ppfr_bench.runner.estimates import Pace, Times
from ppfr_bench.stages.spec import Stage

TYPICAL = {"material": 8.0, "attack": 1.0, "compared": 0.5, "embed": 2.0}  # Seconds.


def stages_of(defenses: int) -> list[Stage]:
    """Five attacks with a network each, and three recognizers, of each defense."""
    found = []
    for number in range(defenses):
        defense = {"name": f"defense_{number}"}
        for attack in ("one", "two", "three", "four", "five"):
            named = {"defense": defense, "attack": {"name": attack}}
            found += [Stage(kind, named) for kind in ("material", "attack", "compared")]
        found += [Stage("embed", {"defense": defense, "recognizer": {"name": f"recognizer_{i}"}}) for i in range(3)]
    return found


@pytest.mark.parametrize("slower", [0.4, 1, 5])
@pytest.mark.parametrize("known", [True, False])
def test_from_the_tenth_cell_on_the_time_left_is_told_within_30_percent(
    monkeypatch: pytest.MonkeyPatch, slower: float, known: bool
) -> None:
    """On a machine that is slower or faster than the one where typical times were taken; also if none is known."""
    now, rng = 100.0, np.random.default_rng(0)
    monkeypatch.setattr(estimates.time, "monotonic", lambda: now)
    stages = stages_of(12)
    expected = {stage.key: TYPICAL[stage.kind] if known else 1.0 for stage in stages}
    pace = Pace({stage.key: stage for stage in stages}, expected)
    assert pace.seconds() is None, "nothing is known before a stage is done"
    busy: list[tuple[float, str, float]] = []
    said: list[tuple[float, float]] = []

    def finish() -> None:
        nonlocal now
        now, key, took = heapq.heappop(busy)
        pace.note(key, took)
        left = pace.seconds()
        assert left is not None
        said.append((now, left))

    for stage in stages:
        if len(busy) == 2:  # Two workers.
            finish()
        took = slower * TYPICAL[stage.kind] * float(rng.lognormal(0, 0.3))
        heapq.heappush(busy, (now + took, stage.key, took))
    while busy:
        finish()
    pace.note("another", 1.0)  # of no stage of this run
    end, cells = now, len(said)
    for at, left in said[40 : cells - 20]:  # Ten cells take some forty stages; the last seconds are not worth telling.
        assert left == pytest.approx(end - at, rel=0.3)
    assert said[-1][1] == 0


def test_a_stage_that_fails_is_not_waited_for() -> None:
    stages = stages_of(1)
    pace = Pace({stage.key: stage for stage in stages}, {stage.key: 1.0 for stage in stages})
    for stage in stages:
        pace.note(stage.key, 1.0 if stage is stages[0] else None)
    assert pace.seconds() == 0


def test_times_of_this_machine_go_before_typical_ones() -> None:
    """Where nothing like a stage was computed here, its kind and attack tell; of an unknown plug-in, its kind alone."""
    first, other = (
        Stage("material", {"defense": {"name": "blackout"}, "name": "scene"}),
        Stage("attack", {"attack": {}}),
    )
    times = Times()
    before = times.expected([first, other])
    assert before[first.key] != before[other.key] and min(before.values()) > 0
    times.note(first, 123.0)
    times.save()
    assert Times().expected([first, other]) == before | {first.key: 123.0}
