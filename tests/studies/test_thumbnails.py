"""How far colour and layout alone tell people apart, without any recognizer: what docs/footguns.md warns of."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional

from ppfr_bench.api import FaceDataset, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.suites import load_suite

SIDE = 4  # pixels


def best_accuracy(data: FaceDataset) -> float:
    """Of verification by the distance of two thumbnails, at the best of all thresholds."""
    images = to_float(data.evaluation.load(range(len(data.evaluation))))
    thumbnails = functional.adaptive_avg_pool2d(images, SIDE).flatten(1)
    apart = (thumbnails[data.pairs.left] - thumbnails[data.pairs.right]).norm(dim=1).numpy()
    return max(float(np.mean((apart <= threshold) == data.pairs.same)) for threshold in np.unique(apart))


def suite_data(suite: str) -> FaceDataset:
    entry = load_suite(suite).dataset
    return load_dataset(entry.name, entry.params)


@pytest.mark.assets
def test_synthetic_people_are_told_apart_by_a_thumbnail() -> None:
    assert best_accuracy(suite_data("standard")) == pytest.approx(0.989, abs=0.005)


def test_people_of_lfw_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data")) / "lfw"
    if not root.is_dir():
        pytest.skip(f"no LFW faces under {root}: set PPFR_BENCH_SHARED")
    monkeypatch.setenv("PPFR_BENCH_LFW", str(root))
    assert best_accuracy(suite_data("lfw_quick")) == pytest.approx(0.600, abs=0.01)
