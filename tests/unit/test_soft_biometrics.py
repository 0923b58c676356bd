"""What classifiers read off faces, how an attack weighs it, and what of it leaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ppfr_bench.attacks.soft_biometrics import _weighed
from pretended_device import OTHERS, assert_alike, other_device

from ppfr_bench import testing
from ppfr_bench.api import Answers, ByteArray
from ppfr_bench.assets import is_cached
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.leaderboard.privacy import leakages
from ppfr_bench.metrics.soft_biometrics import CLASSES, COLUMNS, FIRES, WIDTH, read_soft_biometrics
from ppfr_bench.scorers.base import Truth
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.soft_biometrics import ALIKE, SoftBiometrics

Array = npt.NDArray[Any]
fetched = pytest.mark.skipif(
    not all(is_cached(f"{name}{end}") for name in ("faceres", "gear", "emotion", "blazeface")
            for end in ("", "_weights")),
    reason="not fetched: ppfr-bench assets fetch",
)  # fmt: skip
PEOPLE, PHOTOS = 60, 2


# What is read


def faces() -> ByteArray:
    found = testing.example_faces()
    return found.load(range(0, len(found), 3))


@pytest.mark.assets
@fetched
def test_readings_are_years_probabilities_and_a_score() -> None:
    read = read_soft_biometrics(faces())
    assert read.shape == (len(faces()), WIDTH) and read.dtype == np.float64
    assert (read[:, COLUMNS["age"]] > 5).all() and (read[:, COLUMNS["age"]] < 90).all()
    for name, classes in CLASSES.items():
        part = read[:, COLUMNS[name]]
        assert part.shape[1] == len(classes) and (part >= 0).all()
        np.testing.assert_allclose(part.sum(1), 1, atol=1e-5)
    assert sum(part.stop - part.start for part in COLUMNS.values()) == WIDTH


@pytest.mark.assets
@fetched
def test_a_face_is_detected_and_what_is_none_is_not() -> None:
    noise = np.random.RandomState(0).randint(0, 256, (4, 3, 112, 112)).astype(np.uint8)
    part = COLUMNS["detection"]
    assert (read_soft_biometrics(faces())[:, part] >= FIRES).all()
    assert (read_soft_biometrics(np.concatenate([noise, np.zeros_like(noise)]))[:, part] < FIRES).all()


@pytest.mark.assets
@fetched
@pytest.mark.parametrize("kind", OTHERS)
def test_readings_are_the_same_on_every_device_and_in_every_batch(kind: str) -> None:
    images = faces()[:3]
    here = read_soft_biometrics(images)
    np.testing.assert_allclose(read_soft_biometrics(images[2:]), here[2:], rtol=1e-4, atol=1e-5)
    with other_device(kind) as exact:
        assert_alike(read_soft_biometrics(images), here, exact)


# How readings are weighed


def drawn(random: np.random.RandomState, n: int, classes: int, sharpness: float) -> Array:
    raised = np.exp(sharpness * random.normal(size=(n, classes)))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def test_a_reading_that_tells_is_followed_and_one_that_does_not_is_left() -> None:
    random = np.random.RandomState(0)
    real, noise = drawn(random, 300, 5, 2), drawn(random, 300, 5, 2)
    own, targets = slice(100), slice(100, 300)
    for order in ([real, noise], [noise, real]):
        found = _weighed([one[own] for one in order], real[own], [one[targets] for one in order])
        assert (found.argmax(1) == real[targets].argmax(1)).mean() > 0.97
        np.testing.assert_allclose(found.sum(1), 1)


def test_where_readings_tell_nothing_the_commonest_class_is_the_answer() -> None:
    random = np.random.RandomState(1)
    real = np.eye(3)[random.choice(3, 100, p=[0.2, 0.6, 0.2])]
    noise, constant = drawn(random, 300, 3, 1), np.tile([0.7, 0.2, 0.1], (300, 1))
    found = _weighed([noise[:100], constant[:100]], real, [noise[100:], constant[100:]])
    assert (found.argmax(1) == 1).mean() > 0.95


def test_a_reading_that_leans_to_one_side_is_put_right() -> None:
    """Off a blur a classifier may call nearly all faces men, and still rank them rightly."""
    random = np.random.RandomState(2)
    score = random.normal(size=400)
    male, leaning = 1 / (1 + np.exp(-4 * score)), 1 / (1 + np.exp(-score - 3))
    real, read = (np.stack([1 - one, one], 1) for one in (male, leaning))
    assert (read.argmax(1) == real.argmax(1)).mean() < 0.6
    found = _weighed([read[:100], read[:100]], real[:100], [read[100:], read[100:]])
    assert (found.argmax(1) == real[100:].argmax(1)).mean() > 0.95


# What leaks


def truth() -> Truth:
    who = np.repeat(np.arange(PEOPLE), PHOTOS)
    pixels = np.zeros((len(who), 3, 112, 112), np.uint8)
    data: Any = SimpleNamespace(
        evaluation=ArrayFaces(pixels, who, tuple(map(str, who))), targets=np.arange(len(who)), gallery=who
    )
    return Truth(data, 32)


def readings(seed: int = 0, shares: tuple[float, ...] = (0.5, 0.5)) -> Array:
    """Of ``PEOPLE`` with ``PHOTOS`` each: sexes in these shares, the other classes evenly, ages at random."""
    random = np.random.RandomState(seed)
    found = np.zeros((PEOPLE * PHOTOS, WIDTH))
    found[:, COLUMNS["age"]] = random.normal(40, 10, (PEOPLE, 1)).repeat(PHOTOS, 0)
    for name, classes in CLASSES.items():
        chosen = random.choice(len(classes), PEOPLE, p=shares if name == "sex" else None).repeat(PHOTOS)
        found[:, COLUMNS[name]] = 0.1 / len(classes) + 0.9 * np.eye(len(classes))[chosen]
    found[:, COLUMNS["detection"]] = 0.9
    return found


def blind(real: Array) -> Array:
    """The mean of all, for everybody."""
    return np.tile(real.mean(0), (len(real), 1))


def scored(real: Array, answer: Array, black: Array | None = None, ceiling: Array | None = None) -> dict[str, Any]:
    inputs = {"answer": {"answer": answer}, "floor": {"answer": blind(real) if black is None else black},
              "ceiling": {"answer": real if ceiling is None else ceiling, "real": real}}  # fmt: skip
    return SoftBiometrics().score(inputs, truth(), Bootstrap(100, 0, np.arange(PEOPLE)))


LEAKING = ("age", *CLASSES)


def test_no_defense_leaks_all_and_a_black_image_nothing() -> None:
    real = readings()
    open_, black = scored(real, real), scored(real, blind(real))
    for name in LEAKING:
        assert open_[name].leakage.value == 1 and black[name].leakage.value == 0, name
        assert open_[name].leakage.interval[0] >= 0.9 and black[name].leakage.interval[1] <= 0.1, name


def test_what_is_read_off_somebody_else_is_no_leak() -> None:
    real = readings()
    found = scored(real, real[truth().of_another])
    for name in LEAKING:
        assert found[name].leakage.value < 0.25, name
        assert found[name].floor.value is not None
    assert found["sex"].value.value == pytest.approx(0.5, abs=0.15)


def test_half_of_the_answers_right_leak_half_of_what_is_above_the_commonest_answer() -> None:
    real = readings()
    answer = blind(real)
    answer[::2] = real[::2]
    found = scored(real, answer)
    for name in CLASSES:
        right = real[:, COLUMNS[name]].argmax(1)
        commonest = np.bincount(right).max() / len(right)
        assert found[name].floor.value == pytest.approx(commonest, abs=1e-6)
        share = (found[name].value.value - commonest) / (1 - commonest)
        assert found[name].leakage.value == pytest.approx(share, abs=1e-5)
        assert 0.35 < share < 0.65
    assert 0.35 < found["age"].leakage.value < 0.65


def test_the_floor_is_the_best_of_all_answers_that_ignore_the_target() -> None:
    """A constant by the attack's own people may be worse than the commonest class of the targets."""
    real = readings(shares=(0.3, 0.7))
    wrong = blind(real)
    wrong[:, COLUMNS["sex"]] = [0.9, 0.1]
    wrong[:, COLUMNS["age"]] += 30
    found = scored(real, wrong, black=wrong)
    men = (real[:, COLUMNS["sex"]].argmax(1) == 1).mean()
    assert found["sex"].floor.value == pytest.approx(max(men, 1 - men), abs=1e-6)
    assert found["sex"].leakage.value == 0
    assert found["age"].floor.value == pytest.approx(1, abs=1e-6) and found["age"].leakage.value == 0


@pytest.mark.parametrize(("men", "told"), [(0.6, True), (0.9, False)])
def test_nothing_leaks_of_what_nearly_all_have_in_common(men: float, told: bool) -> None:
    real = readings(shares=(1 - men, men))
    found = scored(real, real)
    share = float((real[:, COLUMNS["sex"]].argmax(1) == 1).mean())
    assert (share <= ALIKE) is told
    assert (found["sex"].leakage is not None) is told and found["sex"].value.value == 1
    record: Any = SimpleNamespace(metrics=found, key="k")
    assert ("sex" in dict(leakages(record))) is told


def test_detection_is_told_and_is_no_leak() -> None:
    real = readings()
    answer = real.copy()
    answer[::4, COLUMNS["detection"]] = FIRES - 0.01
    black = blind(real)
    black[:, COLUMNS["detection"]] = 0.01
    found = scored(real, answer, black=black)["detection"]
    assert (found.value.value, found.floor.value, found.ceiling.value) == (0.75, 0, 1)
    assert found.leakage is None and found.direction == "higher_is_better"


def test_an_answer_of_another_shape_is_refused() -> None:
    scorer = SoftBiometrics()
    assert scorer.wrong_answer(np.zeros((5, WIDTH)), 5, 9) == ""
    assert "expected float (5, 16)" in scorer.wrong_answer(np.zeros((5, 4)), 5, 9)
    assert "NaN" in scorer.wrong_answer(np.full((5, WIDTH), np.nan), 5, 9)


def test_what_leaks_after_half_of_the_training() -> None:
    """All of it after 10 steps of 20, and nothing in the end; what nearly all have in common is on no curve."""
    real = readings(shares=(0.1, 0.9))
    answers = Answers(blind(real), at={10: real, 20: blind(real)}).arrays
    inputs = {"answer": answers, "floor": {"answer": blind(real)}, "ceiling": {"answer": real, "real": real}}
    told = [name for name in LEAKING if name != "sex"]
    assert SoftBiometrics().by_budget(inputs, truth()) == {10: dict.fromkeys(told, 1.0), 20: dict.fromkeys(told, 0.0)}
