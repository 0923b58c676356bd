"""Sampling given a release, where the posterior is known: Gaussian images and a linear release."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import registry, testing
from ppfr_bench.api import DatasetCard, to_float
from ppfr_bench.learning.face_prior import (
    SIDE,
    SPREAD,
    WEIGHTS,
    FacePrior,
    face_prior,
    preconditioning,
    unseen_people,
)
from ppfr_bench.learning.posterior import agreeing, sample, trust
from ppfr_bench.learning.resizing import resize
from ppfr_bench.stages.attack import attacker_view

_ERROR = 0.01


def _linear() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A release of 6 values as 3, one that was seen, and mean and covariance of what is behind it."""
    operator = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)) / 6**0.5
    wanted = torch.tensor([0.4, -0.3, 0.2])
    precision = torch.eye(6) / SPREAD**2 + operator.T @ operator / _ERROR
    covariance = torch.linalg.inv(precision)
    return operator, wanted, covariance @ operator.T @ wanted / _ERROR, covariance


def _denoise(noisy: torch.Tensor, level: float) -> torch.Tensor:
    return noisy * SPREAD**2 / (SPREAD**2 + level**2)


def test_a_step_towards_the_release_is_the_mean_given_both() -> None:
    operator, wanted, _, _ = _linear()
    expected = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    variance = trust(0.7)
    found = agreeing(expected, wanted.expand(5, -1), lambda x: x @ operator.T, _ERROR, variance, steps=6)
    precision = torch.eye(6) / variance + operator.T @ operator / _ERROR
    right = torch.linalg.solve(precision, (expected / variance + wanted @ operator / _ERROR).T).T
    torch.testing.assert_close(found, right, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("fresh", [0.0, 0.5])
def test_samples_have_the_mean_and_the_covariance_of_the_posterior(fresh: float) -> None:
    operator, wanted, mean, covariance = _linear()
    n = 4000

    def guide(expected: torch.Tensor, level: float) -> torch.Tensor:
        return agreeing(expected, wanted.expand(n, -1), lambda x: x @ operator.T, _ERROR, trust(level), steps=4)

    levels = torch.logspace(1, -2, 80).tolist()
    found = sample(_denoise, torch.zeros(n, 6), levels, torch.Generator().manual_seed(0), guide, fresh)
    torch.testing.assert_close(found.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(found.T.cov(), covariance, atol=0.02, rtol=0)


def test_without_a_release_samples_are_of_the_prior() -> None:
    levels = torch.logspace(1, -2, 80).tolist()
    found = sample(_denoise, torch.zeros(4000, 6), levels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.T.cov(), SPREAD**2 * torch.eye(6), atol=0.02, rtol=0)


def test_what_is_above_the_noise_of_the_first_level_stays() -> None:
    start = torch.full((50, 6), 0.8)
    found = sample(_denoise, start, [0.05, 0.02], torch.Generator().manual_seed(0))
    assert float((found - start).abs().mean()) < 0.05
    again = sample(_denoise, start, [0.05, 0.02], torch.Generator().manual_seed(0))
    assert torch.equal(found, again)


def test_an_untrained_prior_answers_as_for_gaussian_images() -> None:
    noisy = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 2.0])
    skip, _ = preconditioning(sigma)
    network = FacePrior()
    assert network(noisy, sigma).shape == noisy.shape
    assert network.out[-1].bias is not None
    torch.nn.init.zeros_(network.out[-1].bias)
    torch.testing.assert_close(network(noisy, sigma), skip * noisy)


def test_people_are_held_out_by_name_whatever_the_photo_or_folder() -> None:
    names = [f"images/person {i}/{i}_{photo:04d}.jpg" for i in range(500) for photo in (1, 2)]
    unseen = unseen_people(names)
    assert (unseen[::2] == unseen[1::2]).all()
    assert 0.1 < unseen.mean() < 0.3
    assert (unseen_people([f"cfp/{name}" for name in names]) == unseen).all()


def test_the_weights_are_those_of_their_card_and_know_faces() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == card["log"]["sha256"]
    assert card["hash_distance_to_training_images"]["samples"]["copies"] == 0
    prior = face_prior.on(torch.device("cpu"))
    assert sum(weight.numel() for weight in prior.parameters()) == card["parameters"]
    faces = testing.example_faces()
    clear = resize(to_float(faces.load(range(len(faces)))), SIDE) * 2 - 1
    noisy = clear + 0.5 * torch.randn(clear.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = prior(noisy, torch.full((len(clear),), 0.5))
    gaussian = _denoise(noisy, 0.5)
    assert (found - clear).square().mean() < 0.3 * (gaussian - clear).square().mean()


@pytest.mark.parametrize(("real", "expected"), [(True, "somewhere"), (False, "")])
def test_an_attacker_is_told_whether_images_are_photographs(real: bool, expected: str) -> None:
    faces = testing.example_faces()
    card = DatasetCard(title="Faces", reference="a test", licence="MIT", real_people=real)
    dataset = SimpleNamespace(name="somewhere", card=card, attacker=faces, evaluation=faces, targets=np.arange(2))
    pixelate = registry.build("defense", "pixelate", {})
    context: Any = SimpleNamespace(
        dataset=dataset, defense=lambda _: pixelate, code_of=lambda _: pixelate, render=lambda _: np.asarray
    )
    job: Any = SimpleNamespace(spec={"defense": {}, "known": {}})
    released: Any = {name: {"images": faces.load(range(4))} for name in ("evaluation", "own")}
    view = attacker_view(registry.load("attack", "gradient_inversion").card, job, released, context, None)
    assert view.photographs_of == expected
