"""The face renderer: what its release depends on, what recognizers read of it, and how it is trained."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import registry, testing, training
from ppfr_bench.api import per_image_generators, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers import load_recognizer

NAME = "face_renderer"
recipe = import_module("ppfr_bench.defenses._renderer_training")
pytestmark = pytest.mark.assets


def protected(photos: torch.Tensor, seed: int = 1, **params: Any) -> torch.Tensor:
    released: torch.Tensor = registry.build("defense", NAME, params).protect(
        photos, torch.Generator().manual_seed(seed)
    )
    return released


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """Two synthetic photos of each of 12 people, which the renderer was not trained on."""
    faces = load_dataset("synthetic", {}).evaluation
    people = np.unique(faces.identities)[:12]
    rows = [np.flatnonzero(faces.identities == person)[place] for place in (0, 1) for person in people]
    return to_float(faces.load(np.array(rows)))


def test_the_weights_are_those_that_log_and_card_name() -> None:
    defense = registry.load("defense", NAME)
    weights = Path(import_module(defense.__module__).WEIGHTS)
    log = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == log["sha256"] == defense.card.weights_sha256
    config = training.configured(recipe.RendererTraining, log["recipe"])
    assert config.model_dump(mode="json") == log["recipe"] == recipe.RendererTrainingConfig().model_dump(mode="json")


def test_a_release_is_a_function_of_embeddings_and_draws(photos: torch.Tensor) -> None:
    module, some = import_module(registry.load("defense", NAME).__module__), photos[:3]
    released, network = protected(some, draws="call"), module._network()
    assert released.shape == some.shape and released.min() >= 0 and released.max() <= 1
    with torch.no_grad():
        keys = per_image_generators(torch.Generator().manual_seed(1), 3)
        people = network.person(module.read(module.ensemble(module.RECOGNIZERS).networks, some))
        again = network.compose(network.detail(people), network.draw(keys))
    assert torch.allclose(released, again, atol=1e-5)


def test_one_secret_gives_a_photo_one_release_and_another_secret_another(photos: torch.Tensor) -> None:
    some = photos[:3]
    released = protected(some, seed=1)
    assert torch.equal(released, protected(some, seed=2))
    assert (released - protected(some, secret=1)).abs().mean() > 0.02
    fresh = [protected(some, seed, draws="call") for seed in (1, 1, 2)]
    assert torch.equal(fresh[0], fresh[1]) and (fresh[0] - fresh[2]).abs().mean() > 0.02


def test_a_recognizer_that_it_never_met_names_the_people(photos: torch.Tensor) -> None:
    judge = load_recognizer("mobilefacenet")
    released = judge.embed(protected(photos)).numpy()
    found = np.argmax(judge.similarity_matrix(released[:12], released[12:]), axis=1)
    assert (found == np.arange(12)).mean() >= 0.8  # One in twelve by chance.


def test_the_first_call_of_a_process_draws_from_no_global_state() -> None:
    """It loads the recognizers, of which layers and converters draw."""
    code = (
        "import torch; from ppfr_bench import global_randomness, registry; before = global_randomness.state();"
        f"registry.build('defense', '{NAME}', {{}}).protect(torch.rand(1, 3, 112, 112, generator=torch.Generator()),"
        "torch.Generator()); assert global_randomness.state() == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Thumbnail(nn.Module):
    """A surrogate of as many numbers as the renderer reads, 512, that a test can afford."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = functional.adaptive_avg_pool2d(images - 0.5, 13).flatten(1)
        return functional.normalize(functional.pad(small, (0, 512 - small.shape[1])), dim=1)


def made(seed: int = 1) -> Any:
    config = recipe.RendererTrainingConfig(steps=4, cycle=2, batch=2, width=8)
    return recipe.RendererTraining(config, testing.example_faces(), Thumbnail(), seed)


def test_a_training_that_goes_on_gives_the_same_weights() -> None:
    whole = made()
    told = [whole.step(number) for number in range(4)]
    assert {"faceplugin", "dlib_resnet", "confused", "unlike"} == set(told[0])
    half = made()
    for number in range(2):
        half.step(number)
    again = made(seed=1)
    again.restore(half.state())
    assert [again.step(number) for number in (2, 3)] == told[2:]
    assert all(torch.equal(value, again.weights()[name]) for name, value in whole.weights().items())


def test_a_training_on_another_surrogate_is_refused() -> None:
    class Short(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return functional.normalize(images.flatten(1)[:, :128], dim=1)

    config = recipe.RendererTrainingConfig()
    with pytest.raises(UserError, match="faceplugin"):
        recipe.RendererTraining(config, testing.example_faces(), Short(), 0)


def test_the_people_that_it_learns_from_are_its_own() -> None:
    assert training.people_of(recipe.RendererTraining) == {"defender_identities": 2000, "defender_images": 2}
    assert training.people_of(training.recipe_of("stochastic_anonymizer")) == {}
