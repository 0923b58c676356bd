"""Draws that a secret key fixes for each photo."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from ppfr_bench import registry, testing
from ppfr_bench.api import per_image_generators, to_float

draws = import_module("ppfr_bench.defenses._draws")
FACES = to_float(testing.example_faces().load(range(16)))


def seeds(secret: int, images: torch.Tensor) -> list[int]:
    return [key.initial_seed() for key in draws.photo_generators(secret, images)]


def test_a_photo_has_one_draw_in_any_batch_and_another_one_under_another_secret() -> None:
    once = seeds(3, FACES)
    assert seeds(3, FACES[5:7]) == once[5:7]
    people = once[::4]
    assert len(set(people)) == len(people), "different people, different draws"
    assert not set(once) & set(seeds(4, FACES))


def test_what_looks_alike_has_the_same_draw() -> None:
    noise = torch.randn(FACES.shape, generator=torch.Generator().manual_seed(0))
    kept = np.mean(np.equal(seeds(3, FACES), seeds(3, (FACES + 0.01 * noise).clamp(0, 1))))
    assert kept >= 0.75
    assert seeds(3, FACES) != seeds(3, 1 - FACES)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 4, 4), (3, 5, 7), (3, 112, 112)])
def test_the_coarse_look_has_every_level_at_any_size(channels: int, height: int, width: int) -> None:
    for level in range(draws.LEVELS):
        flat = torch.full((1, channels, height, width), (32 * level + 31) / 255)
        assert draws._coarse_looks(flat).tolist() == [[level] * draws.FIELDS**2]
    half = torch.zeros(1, channels, height, width)
    half[..., : height // 2, :] = 1
    rows = draws._coarse_looks(half).reshape(draws.FIELDS, draws.FIELDS)
    assert (rows[0] == 7).all() and (rows[-1] == 0).all()


def test_many_releases_of_the_reference_defense_are_one_unless_it_draws_at_every_call() -> None:
    first, second = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    images = FACES[:4]
    fixed = registry.build("defense", "stochastic_anonymizer", {})
    assert torch.equal(fixed.protect(images, first), fixed.protect(images, second))
    other = registry.build("defense", "stochastic_anonymizer", {"secret": 1})
    assert (fixed.protect(images, first) - other.protect(images, first)).abs().mean() > 0.02
    fresh = registry.build("defense", "stochastic_anonymizer", {"draws": "call"})
    assert (fresh.protect(images, first) - fresh.protect(images, second)).abs().mean() > 0.02
    assert fixed.randomness == "per_session_key" and fresh.randomness == "per_call"


def test_a_fresh_draw_is_that_of_the_generator_of_the_image() -> None:
    weights = import_module("ppfr_bench.defenses.stochastic_anonymizer")._generator()
    keys = per_image_generators(torch.Generator().manual_seed(5), 2)
    fresh = registry.build("defense", "stochastic_anonymizer", {"draws": "call"})
    released = fresh.protect(FACES[:2], torch.Generator().manual_seed(5))
    assert torch.equal(released, weights(FACES[:2], 0.35, keys))
