"""The measure of the machine: a torch loop with nothing of this project in it, that a nightly run divides by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

pytestmark = pytest.mark.slow


def test_a_bare_loop(benchmark: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 16, 64, 64, generator=generator)
    weights = torch.rand(16, 16, 3, 3, generator=generator)

    def loop() -> float:
        out = images
        for _ in range(10):
            out = functional.conv2d(out, weights, padding=1).tanh()
        return float(out.mean())

    assert benchmark.pedantic(loop, rounds=5, warmup_rounds=1) <= 1
