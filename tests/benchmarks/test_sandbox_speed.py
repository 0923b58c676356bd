"""What it costs to run a defense in a process of its own: the ratio of both ways, measured in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import registry, testing
from ppfr_bench.sandbox.stand_in import StandIn
from ppfr_bench.stages.release import release

pytestmark = pytest.mark.slow
NAMES = (
    "gaussian_blur",
    "block_permutation",
    "local_contrast",
    "stochastic_local",
    "stochastic_anonymizer",
)  # Of quick.
BATCH, BATCHES, ROUNDS = 64, 3, 7
AT_MOST = 1.10  # Of the time that the same takes in this process.


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    registry._foreign_class.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "own_defenses", lambda: frozenset())
        yield {name: registry.build("defense", name, {}) for name in NAMES}
    registry._foreign_class.cache_clear()


def test_a_defense_apart_takes_at_most_a_tenth_longer(benchmark: Any, apart: dict[str, Any]) -> None:
    """Releases of defenses of ``quick``; the medians of rounds in which both ways take turns."""
    faces = testing.example_faces()
    images = np.concatenate([faces.load(range(len(faces)))] * (BATCH // len(faces)))
    here = {name: registry.build("defense", name, {}) for name in NAMES}
    assert all(isinstance(one, StandIn) for one in apart.values())
    times: dict[str, list[float]] = {"here": [], "apart": []}

    def both() -> None:
        outputs = []
        for way, defenses in (("here", here), ("apart", apart)):
            start = time.perf_counter()
            generator = torch.Generator().manual_seed(0)
            for _ in range(BATCHES):
                outputs.append([release(defense, images, generator) for defense in defenses.values()])
            times[way].append(time.perf_counter() - start)
        assert all(map(np.array_equal, outputs[0], outputs[BATCHES]))

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    ratio = statistics.median(times["apart"][1:]) / statistics.median(times["here"][1:])
    benchmark.extra_info["ratio"] = ratio
    assert ratio <= AT_MOST
