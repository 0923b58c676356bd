"""The face that is drawn from embeddings: the committed weights, and what its release depends on."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench.api import to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.recognizers import load_recognizer

FOLDER = Path(__file__).parents[2] / "studies" / "reference_defense"
pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def renderer() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        import face_renderer
    finally:
        sys.path.remove(str(FOLDER))
    return face_renderer


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Two synthetic photos of each of 12 people, which the renderer was not trained on."""
    faces = load_dataset("synthetic", {}).evaluation
    people = np.unique(faces.identities)[:12]
    rows = [np.flatnonzero(faces.identities == person)[place] for place in (0, 1) for person in people]
    return to_float(faces.load(np.array(rows)))


def test_the_weights_are_those_that_the_log_names() -> None:
    log = json.loads((FOLDER / "face_renderer.json").read_text(encoding="utf-8"))
    weights = (FOLDER / "face_renderer.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == log["sha256"]
    assert log["surrogates"] == ["faceplugin", "dlib_resnet"]


def test_a_release_is_a_function_of_embeddings_and_draws(renderer: Any, photos: torch.Tensor) -> None:
    defense, some = renderer.DEFENSE(renderer.DEFENSE.Config()), photos[:3]
    released = defense.protect(some, torch.Generator().manual_seed(1))
    assert released.shape == some.shape and released.min() >= 0 and released.max() <= 1
    assert torch.equal(released, defense.protect(some, torch.Generator().manual_seed(1)))
    assert (released - defense.protect(some, torch.Generator().manual_seed(2))).abs().mean() > 0.02
    network = renderer._renderer.on(some.device)
    with torch.no_grad():
        keys = renderer.per_image_generators(torch.Generator().manual_seed(1), 3)
        again = network.compose(network.detail(network.person(renderer.read(some))), network.draw(keys))
    assert torch.allclose(released, again, atol=1e-5)


def test_a_recognizer_that_it_never_met_names_the_people(renderer: Any, photos: torch.Tensor) -> None:
    defense, judge = renderer.DEFENSE(renderer.DEFENSE.Config()), load_recognizer("mobilefacenet")
    released = judge.embed(defense.protect(photos, torch.Generator().manual_seed(3))).numpy()
    found = np.argmax(judge.similarity_matrix(released[:12], released[12:]), axis=1)
    assert (found == np.arange(12)).mean() >= 0.8  # One in twelve by chance.
