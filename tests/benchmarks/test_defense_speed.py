"""Protecting 1,000 images, defense by defense: images a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import registry, testing
from ppfr_bench.api import Defense, to_bytes, to_float

pytestmark = pytest.mark.slow
COUNT, BATCH = 1000, 64


NAMES = [name for name in registry.names("defense") if registry.load("defense", name).card.live]


@pytest.mark.parametrize("name", NAMES)
def test_protecting_a_thousand_images(benchmark: Any, name: str) -> None:
    defense, examples = registry.build("defense", name, {}), testing.example_faces()
    if type(defense).fit is not Defense.fit:
        defense.fit(examples, torch.Generator().manual_seed(0))
    faces = examples.load(range(16))
    images = np.concatenate([faces] * (COUNT // len(faces) + 1))[:COUNT]

    def protect() -> int:
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            parts = [
                to_bytes(defense.protect(to_float(images[start : start + BATCH]), generator))
                for start in range(0, COUNT, BATCH)
            ]
        return sum(len(part) for part in parts)

    assert benchmark.pedantic(protect, rounds=3, warmup_rounds=1) == COUNT
    benchmark.extra_info["images_per_second"] = COUNT / benchmark.stats.stats.min
