"""The measure of the machine, and the speed of defenses and of what they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch.nn import functional

from ppfr_bench import registry, testing
from ppfr_bench.api import Defense, to_bytes, to_float
from ppfr_bench.cloak.api import Cloak

pytestmark = pytest.mark.slow
COUNT, BATCH = 1000, 64
BLOCKED = 256  # So many images are transformed.


NAMES = [  # Those of images and representations; a cloak descends for each image, which takes minutes.
    name for name in registry.names("defense")
    if (kind := registry.load("defense", name)).card.live and issubclass(kind, Defense) and not issubclass(kind, Cloak)
]  # fmt: skip


def test_a_bare_loop(benchmark: Any) -> None:
    """A torch loop with nothing of this project in it, by which a nightly run divides."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 16, 64, 64, generator=generator)
    weights = torch.rand(16, 16, 3, 3, generator=generator)

    def loop() -> float:
        out = images
        for _ in range(10):
            out = functional.conv2d(out, weights, padding=1).tanh()
        return float(out.mean())

    assert benchmark.pedantic(loop, rounds=5, warmup_rounds=1) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_protecting_a_thousand_images(benchmark: Any, name: str) -> None:
    """Images a second."""
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


def test_block_frequencies_of_256_images(benchmark: Any) -> None:
    """One matrix product, beside SciPy's transform of the same blocks and a change of colours after it."""
    freq = import_module("ppfr_bench.defenses._frequency")
    images = torch.rand(BLOCKED, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    blocks = (images - 0.5).numpy().reshape(BLOCKED, 3, 14, 8, 14, 8).transpose(0, 1, 2, 4, 3, 5)
    colours = np.array(freq._COLOURS, dtype=np.float32)

    def scipys() -> np.ndarray[Any, Any]:
        waves = dctn(blocks, axes=(4, 5), norm="ortho")
        mixed = np.einsum("cr,nrhwvu->ncvuhw", colours, waves, optimize=True)
        return np.ascontiguousarray(mixed).reshape(BLOCKED, -1, 14, 14)

    def ours() -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = freq.analyse(images).numpy()
        return found

    np.testing.assert_allclose(benchmark.pedantic(ours, rounds=5, warmup_rounds=1), scipys(), rtol=0, atol=1e-5)
    ratio = _best(scipys) / benchmark.stats.stats.min
    benchmark.extra_info["times_as_fast_as_scipy"] = round(ratio, 2)
    assert ratio > 1, "a matrix product should not lose to a transform and a change of colours"


def _best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
