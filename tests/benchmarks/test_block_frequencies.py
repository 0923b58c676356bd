"""Block frequencies as one matrix product, beside SciPy's transform of the same blocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn

pytestmark = pytest.mark.slow
COUNT = 256


def test_block_frequencies_of_256_images(benchmark: Any) -> None:
    freq = import_module("ppfr_bench.defenses._frequency")
    images = torch.rand(COUNT, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    blocks = (images - 0.5).numpy().reshape(COUNT, 3, 14, 8, 14, 8).transpose(0, 1, 2, 4, 3, 5)

    def scipys() -> float:
        return float(np.abs(dctn(blocks, axes=(4, 5), norm="ortho")).max())

    def ours() -> float:
        return float(freq.analyse(images).abs().max())

    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    ratio = _best(scipys) / benchmark.stats.stats.min
    benchmark.extra_info["times_as_fast_as_scipy"] = round(ratio, 2)
    assert ratio > 1, "a matrix product, colours included, should not lose to a transform without them"


def _best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
