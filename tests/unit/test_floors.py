"""Floors: the best of all answers that ignore the target, and whose answer a target is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.metrics import LEAKING
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes
from ppfr_bench.scorers.attributes import Attributes
from ppfr_bench.scorers.base import Truth
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.reconstruction import Reconstruction
from ppfr_bench.scorers.template import Template
from ppfr_bench.stages.floor import FACES, SIGMAS, mean_faces


def truth_of(people: Any, images: Any = None) -> Truth:
    """Of targets that show these people."""
    who = np.asarray(people)
    pixels = np.zeros((len(who), 3, 112, 112), np.uint8) if images is None else images
    faces = ArrayFaces(pixels, who, tuple(str(i) for i in range(len(who))))
    data: Any = SimpleNamespace(evaluation=faces, targets=np.arange(len(who)), gallery=np.arange(len(who)))
    return Truth(data, 32)


@settings(max_examples=50, deadline=None)
@given(people=st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_a_target_is_given_the_answer_to_another_persons(people: list[int]) -> None:
    found = truth_of(people).of_another
    assert found.shape == (len(people),)
    if len(set(people)) > 1:
        assert all(people[i] != people[j] for i, j in enumerate(found.tolist()))
    else:
        assert found.tolist() == list(range(len(people)))


def test_the_answers_of_others_come_from_three_places() -> None:
    """A quarter, a half and three quarters of the way round: no single stranger decides."""
    found = truth_of(np.arange(120)).of_another
    assert {int((found[i] - i) % 120) for i in range(120)} == {30, 60, 90}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), people=st.integers(2, 8))
def test_no_answer_that_ignores_the_target_is_better_than_the_floor(seed: int, people: int) -> None:
    random, who = np.random.default_rng(seed), np.repeat(np.arange(people), 3)
    scorer = Reconstruction()
    names = ["answer", "ceiling", "floor", "another", *(f"mean_face_{i}" for i in range(3))]
    inputs = {part: {name: random.random(len(who)) for name in scorer.image_metrics} for part in names}
    found = scorer.score(inputs, truth_of(who), Bootstrap(20, 0, np.unique(who)))
    for name in LEAKING:
        floor = found[name].floor
        assert floor is not None and floor.value is not None
        sign = -1 if found[name].lower_is_more_alike else 1
        for part in names[2:]:
            assert sign * floor.value >= sign * inputs[part][name].mean() - 1e-6, (name, part)


def test_what_an_attack_knows_of_faces_is_no_leak() -> None:
    """Its answers are equally good for anybody: nothing leaks, where beside the mean face a quarter would."""
    who = np.repeat(np.arange(30), 2)
    parts = {"answer": 0.41, "another": 0.41, "mean_face_0": 0.51, "floor": 0.53, "ceiling": 0.10}
    inputs = {part: {name: np.full(60, value) for name in ("lpips", "ssim", "ms_ssim", "psnr")}
              for part, value in parts.items()}  # fmt: skip
    found = Reconstruction().score(inputs, truth_of(who), Bootstrap(20, 0, np.unique(who)))["lpips"].leakage
    assert found is not None and found.value == 0
    del inputs["another"]
    found = Reconstruction().score(inputs, truth_of(who), Bootstrap(20, 0, np.unique(who)))["lpips"].leakage
    assert found is not None and found.value == pytest.approx(0.1 / 0.41, rel=1e-4)


def test_a_face_from_an_embedding_is_measured_against_a_perfect_copy() -> None:
    """What the attack regains undefended is the price of utility; it must not count as all there is."""
    who = np.repeat(np.arange(30), 2)
    metrics = ("lpips", "ssim", "ms_ssim", "psnr")
    parts = {"answer": 0.30, "another": 0.40, "mean_face_0": 0.50, "floor": 0.50, "ceiling": 0.30}
    inputs = {part: {name: np.full(60, value) for name in metrics} for part, value in parts.items()}
    for part in ("answer", "ceiling"):  # The ceiling is the same attack, so it has answers after parts of a budget too.
        inputs[part] |= {f"{name}_at_{size}": np.full(60, 0.35) for name in metrics[:3] for size in (50, 100)}
    assert Template().by_budget(inputs, truth_of(who))[50]["lpips"] == pytest.approx(0.05 / 0.4)
    found = Template().score(inputs, truth_of(who), Bootstrap(20, 0, np.unique(who)))
    assert set(found) == set(metrics)
    assert found["lpips"].ceiling is not None and found["lpips"].ceiling.value == 0
    assert found["lpips"].leakage is not None and found["lpips"].leakage.value == pytest.approx(0.1 / 0.4)
    assert found["ssim"].ceiling is not None and found["ssim"].ceiling.value == 1
    assert found["ssim"].leakage is not None and found["ssim"].leakage.value == 0
    assert inputs["ceiling"]["lpips"][0] == 0.30, "what the scorer is given is not to be written to"


def test_attributes_that_are_read_off_anybody_alike_are_no_leak() -> None:
    images = np.random.default_rng(0).integers(60, 200, (24, 3, 112, 112), dtype=np.uint8)
    images[:, :, 60:] //= np.arange(1, 25, dtype=np.uint8)[:, None, None, None] % 4 + 1
    truth = truth_of(np.repeat(np.arange(12), 2), images)
    real = read_attributes(images)
    blind = np.tile(real.mean(0), (24, 1))
    shuffled = real[np.random.default_rng(1).permutation(24)]
    inputs = {"answer": {"answer": shuffled}, "floor": {"answer": blind + real.std(0)}, "ceiling": {"answer": real}}
    found = Attributes().score(inputs, truth, Bootstrap(50, 0, np.arange(12)))
    for i, name in enumerate(ATTRIBUTES):
        floor = found[name].floor
        assert floor is not None and floor.value is not None
        black = float(((inputs["floor"]["answer"][:, i] - real[:, i]) ** 2).mean() / real[:, i].var())
        another = float(((shuffled[truth.of_another][:, i] - real[:, i]) ** 2).mean() / real[:, i].var())
        assert floor.value == pytest.approx(min(black, another), rel=1e-5)


def test_typical_faces_are_those_nearest_to_the_mean() -> None:
    random = np.random.default_rng(0)
    common = random.integers(100, 150, (3, 112, 112))
    images = np.clip(common + random.integers(-20, 20, (40, 3, 112, 112)), 0, 255).astype(np.uint8)
    images[::2] = 255 - images[::2] // 4  # Half of them are far from all others.
    images[1::2][10:] = np.clip(images[1::2][10:].astype(int) + 60, 0, 255)
    faces = ArrayFaces(images, np.arange(40), tuple(map(str, range(40))))
    saved: dict[str, Any] = {}
    context: Any = SimpleNamespace(dataset=SimpleNamespace(attacker=faces), batch=16)
    job: Any = SimpleNamespace(spec={"sigmas": list(SIGMAS), "faces": FACES})
    mean_faces(job, {}, context, SimpleNamespace(save=lambda name, array: saved.update({name: array})))  # type: ignore[arg-type]
    answer = saved["answer"]
    assert answer.shape == (len(SIGMAS) + FACES, 3, 112, 112) and answer.dtype == np.uint8
    distances = np.square(images - images.astype(float).mean(0)).sum((1, 2, 3))
    chosen = np.argsort(distances)[:FACES]
    assert {one.tobytes() for one in answer[len(SIGMAS) :]} == {images[i].tobytes() for i in chosen}
