"""Training what ships with weights: resumable to the byte, and what the reference defense's own recipe promises."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import registry, testing, training
from ppfr_bench.api import to_float
from ppfr_bench.errors import UserError

recipe = import_module("ppfr_bench.defenses._anonymizer_training")
CONFIG = {"steps": 3, "warm": 1, "people": 2}


class Thumbnail(nn.Module):
    """A surrogate that a test can afford: unit vectors of a 7x7 mean."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.normalize(functional.adaptive_avg_pool2d(images - 0.5, 7).flatten(1), dim=1)


def made(**more: Any) -> Any:
    config = recipe.TrainingConfig(**(CONFIG | more))
    return recipe.AnonymizerTraining(config, testing.example_faces(), Thumbnail(), seed=1)


class Killed(Exception):
    pass


def test_a_killed_training_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_EVERY", 0.0)

    def kill(done: int, values: Mapping[str, float]) -> None:
        if done == 3:
            raise Killed

    whole, log = training.train(made(), {"seed": 1}, tmp_path / "whole", lambda *_: None)
    with pytest.raises(Killed):
        training.train(made(), {"seed": 1}, tmp_path / "killed", kill)
    again, resumed = training.train(made(), {"seed": 1}, tmp_path / "killed", lambda *_: None)
    assert again.read_bytes() == whole.read_bytes()
    assert resumed["curve"] == log["curve"]
    assert log["sha256"] == hashlib.sha256(whole.read_bytes()).hexdigest()


def test_another_spec_starts_anew(tmp_path: Path) -> None:
    training.train(made(), {"seed": 1}, tmp_path, lambda *_: None)
    steps: list[int] = []
    training.train(made(), {"seed": 2}, tmp_path, lambda done, _: steps.append(done))
    assert steps[0] == 1
    training.train(made(), {"seed": 2}, tmp_path, lambda done, _: steps.append(-done))
    assert min(steps) > 0  # done already: nothing left to do


def test_a_defense_without_weights_says_which_have_some() -> None:
    with pytest.raises(UserError, match="stochastic_anonymizer"):
        training.recipe_of("pixelate")
    assert training.recipe_of("stochastic_anonymizer") is recipe.AnonymizerTraining


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(UserError, match="steps"):
        training.configured(recipe.AnonymizerTraining, {"steps": 0})


def test_the_inverter_learns_first_and_the_generator_only_after() -> None:
    trained = made(steps=2)
    before = trained.generator.gates.clone()
    trained.step(0)
    assert torch.equal(trained.generator.gates, before)
    values = trained.step(1)
    assert not torch.equal(trained.generator.gates, before)
    assert set(values) >= {"missed", "who", "confused", "leaked", "linked", "strength"}


def test_privacy_closes_gates_that_recognition_keeps_open() -> None:
    """Without the inverter's success in its loss, the generator keeps more of the face than with it."""
    kept = {}
    for privacy in (0.0, 30.0):
        trained = made(steps=8, privacy=privacy, match=0.0, smoothness=0.0)
        for number in range(trained.steps):
            trained.step(number)
        kept[privacy] = float(trained.generator.maps(0.5, 28, 28)[0].detach().mean())
    assert kept[30.0] < kept[0.0]


def test_shipped_weights_are_those_of_the_card() -> None:
    defense = registry.load("defense", "stochastic_anonymizer")
    weights = Path(import_module(defense.__module__).WEIGHTS)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == defense.card.weights_sha256


def test_no_colour_and_no_brightness_reach_the_generator() -> None:
    bands = import_module("ppfr_bench.defenses._local_generator").local_bands
    faces = to_float(testing.example_faces().load(range(4)))
    grey = import_module("ppfr_bench.defenses._filters").luma(faces)
    assert torch.allclose(bands(faces), bands(grey.expand(-1, 3, -1, -1)), atol=1e-4)
    darker = 0.5 * faces + 0.2
    inside = (bands(faces) - bands(darker)).abs().mean() / bands(faces).abs().mean()
    assert inside < 0.25  # the floor under the local deviation, which keeps flat regions flat, is all that remains


def test_the_dial_keeps_less_the_further_it_is_turned() -> None:
    generator = import_module("ppfr_bench.defenses.stochastic_anonymizer")._generator()
    kept = [float(generator.maps(strength, 112, 112)[0][:2].mean()) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 2 * kept[-1]
