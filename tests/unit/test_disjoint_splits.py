"""PerceptualHashes of images, near duplicates among them, and data sets whose splits share somebody."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppfr_bench import testing
from ppfr_bench.api import ByteArray, DatasetCard, FaceDataset, Faces
from ppfr_bench.datasets import disjoint_splits
from ppfr_bench.datasets.disjoint_splits import (
    DISTANCE,
    WithoutCopies,
    check_disjoint,
    kept_perceptual_hashes,
    near_duplicates,
    perceptual_hashes,
)
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.errors import UserError

FACES = testing.example_faces()
IMAGES = FACES.load(range(len(FACES)))


def bits(images: ByteArray) -> np.ndarray:
    return np.unpackbits(perceptual_hashes([images]).view(np.uint8), axis=1)


def jpeg(images: ByteArray, quality: int) -> ByteArray:
    out = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return np.stack(out)


def test_a_fingerprint_by_hand() -> None:
    """Brighter to the right: all bits; to the left, or nowhere: none; at one edge only: the bit of that edge."""
    ramp = np.broadcast_to(np.arange(112, dtype=np.uint8), (1, 3, 112, 112))
    assert bits(ramp).all()
    assert not bits(ramp[..., ::-1]).any()
    assert not bits(np.full((1, 3, 112, 112), 77, np.uint8)).any()
    step = np.zeros((1, 3, 17, 17), np.uint8)
    step[..., 5:] = 9
    np.testing.assert_array_equal(np.flatnonzero(bits(step)[0].reshape(16, 16).any(0)), [4])


def test_area_means_are_those_of_a_fine_grid() -> None:
    """Every pixel cut into 16 x 17 equal parts, which the cells hold whole."""
    luma = np.einsum("nchw,c->nhw", IMAGES[:3].astype(np.int64), [299, 587, 114])
    fine = luma.repeat(16, axis=1).repeat(17, axis=2).reshape(3, 16, 112, 17, 112).sum((2, 4))
    np.testing.assert_array_equal(bits(IMAGES[:3]).reshape(3, 16, 16), fine[:, :, 1:] > fine[:, :, :-1])


def test_batches_and_order_do_not_matter() -> None:
    whole = perceptual_hashes([IMAGES])
    assert whole.shape == (16, 4) and whole.dtype == np.uint64
    np.testing.assert_array_equal(whole, perceptual_hashes(FACES.batches(5)))
    np.testing.assert_array_equal(whole[::-1], perceptual_hashes([IMAGES[::-1]]))
    assert perceptual_hashes([]).shape == perceptual_hashes([IMAGES[:0]]).shape == (0, 4)


@pytest.mark.parametrize(
    "images",
    [IMAGES[0], IMAGES.astype(np.float32), IMAGES[:, :1], IMAGES[..., :16]],
    ids=["one image", "floats", "grey", "narrow"],
)
def test_other_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UserError, match="A perceptual hash needs uint8 images"):
        perceptual_hashes([images])


def test_the_same_photograph_is_found_and_nobody_else() -> None:
    random = np.random.RandomState(0)
    noisy = IMAGES + random.standard_normal(IMAGES.shape) * 3
    variants = {
        "jpeg": jpeg(IMAGES, 75),
        "darker": (IMAGES * 0.8).round(),
        "brighter": IMAGES * 0.7 + 40,
        "noise": noisy.round(),
        "contrast": (IMAGES * 0.5 + 64).round(),
    }
    prints, identities = perceptual_hashes([IMAGES]), FACES.identities
    for name, variant in variants.items():
        other = perceptual_hashes([variant.clip(0, 255).astype(np.uint8)])
        found = near_duplicates(prints, other)
        assert {(i, i) for i in range(16)} <= set(found), name
        assert all(identities[i] == identities[j] for i, j in found), name


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(0, 256))
def test_distances_are_hamming_distances(seed: int, distance: int) -> None:
    random = np.random.RandomState(seed)
    left = random.randint(0, 256, (7, 32)).astype(np.uint8)
    right = np.concatenate([left[::-1], random.randint(0, 256, (4, 32)).astype(np.uint8)])
    right[0, 3] ^= 5
    expected = [
        (i, j) for i in range(7) for j in range(11) if np.unpackbits(left[i] ^ right[j]).sum() <= distance
    ]  # fmt: skip
    assert near_duplicates(left.view(np.uint64), right.view(np.uint64), distance) == expected


def test_blocks_miss_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.RandomState(1)
    left, right = (random.randint(0, 2**62, (n, 4)).astype(np.uint64) for n in (23, 31))
    whole = near_duplicates(left, right, 120)
    monkeypatch.setattr("ppfr_bench.datasets.disjoint_splits._BLOCK", 4)
    assert near_duplicates(left, right, 120) == whole
    assert len(whole) > 20
    assert near_duplicates(left[:0], right) == near_duplicates(left, right[:0]) == []


# Data sets -----------------------------------------------------------------------------------------------------------


class Made(FaceDataset):
    """Splits as they are given; one that is None must not be asked for."""

    def __init__(self, attacker: Faces, evaluation: Faces, defender: Faces | None = None) -> None:
        self.attacker, self.evaluation = attacker, evaluation
        self._defender = defender

    @property
    def defender(self) -> Faces:  # type: ignore[override]
        assert self._defender is not None, "not to be loaded"
        return self._defender


def noise(seed: int) -> ByteArray:
    return np.random.RandomState(seed).randint(0, 256, (4, 3, 112, 112)).astype(np.uint8)


def faces(seed: int, identities: Sequence[int], folder: str, images: ByteArray | None = None) -> Faces:
    names = [f"{folder}/{person}/{i}" for i, person in enumerate(identities)]
    return ArrayFaces(noise(seed) if images is None else images, identities, names)


TESTED = faces(1, [1, 1, 2, 2], "evaluation")
CLEAN = faces(2, [3, 3, 4, 4], "attacker")


def test_disjoint_splits_pass() -> None:
    check_disjoint(Made(CLEAN, TESTED, faces(3, [5, 5, 6, 6], "defender")))
    check_disjoint(Made(CLEAN, TESTED), splits=["attacker"])


def test_a_shared_number_is_named() -> None:
    with pytest.raises(UserError, match=r"1 people .* attacker's .* number: attacker/2/2 and evaluation/2/2") as caught:
        check_disjoint(Made(faces(2, [3, 3, 2, 2], "attacker"), TESTED, CLEAN))
    assert caught.value.hint


def test_the_defender_is_looked_at_too() -> None:
    with pytest.raises(UserError, match=r"2 people .* defender's .* defender/1/0 and evaluation/1/0, defender/2/2"):
        check_disjoint(Made(CLEAN, TESTED, faces(3, [1, 1, 2, 2], "defender")))


def test_a_person_under_another_number_is_found_by_folder_or_name() -> None:
    renumbered = ArrayFaces(noise(2), [9, 9, 8, 8], ["evaluation/1/7", "evaluation/1/8", "x/a", "x/b"])
    with pytest.raises(UserError, match="by their folder: evaluation/1/7 and evaluation/1/0"):
        check_disjoint(Made(renumbered, TESTED, CLEAN))
    flat = ArrayFaces(noise(2), [9, 9, 8, 8], ["a", "b", "c", "d"])
    with pytest.raises(UserError, match="by their image name: d and d"):
        check_disjoint(Made(flat, ArrayFaces(noise(1), [1, 1, 2, 2], ["e", "f", "g", "d"])), splits=["attacker"])


def test_a_folder_of_many_people_is_nobody() -> None:
    left = ArrayFaces(noise(2), [9, 9, 8, 8], [f"images/{i}" for i in range(4)])
    right = ArrayFaces(noise(1), [1, 1, 2, 2], [f"images/{i}" for i in range(4, 8)])
    check_disjoint(Made(left, right), splits=["attacker"])


def test_a_photograph_under_another_name_is_found() -> None:
    images = IMAGES[::4].copy()
    evaluation = faces(1, [1, 1, 2, 2], "evaluation", images)
    training = noise(2)
    training[3] = jpeg(images[1:2], 75)[0]
    with pytest.raises(UserError, match=r"1 photographs .* attacker's .*: attacker/4/3 and evaluation/1/1"):
        check_disjoint(Made(faces(2, [3, 3, 4, 4], "attacker", training), evaluation), splits=["attacker"])
    check_disjoint(Made(CLEAN, evaluation), splits=["attacker"])


def test_many_finds_are_counted_and_three_are_named() -> None:
    copies = faces(2, [3, 3, 4, 4], "attacker", noise(1))
    with pytest.raises(UserError, match=r"4 photographs .* and 1 more\."):
        check_disjoint(Made(copies, TESTED), splits=["attacker"])


def test_example_faces_of_different_people_are_far_apart() -> None:
    prints, identities = perceptual_hashes([IMAGES]), FACES.identities
    near = near_duplicates(prints, prints, 2 * DISTANCE)
    assert all(identities[i] == identities[j] for i, j in near)


# Copies left out -----------------------------------------------------------------------------------------------------


class Doubled(Made):
    """The attacker and the defender hold a photograph each that is measured too, under another name."""

    name, version, revision = "doubled", 3, "doubled-1"
    card = DatasetCard(title="Doubled", reference="made", licence="MIT", real_people=True)

    def __init__(self, people: Sequence[int] = (3, 3, 4, 4), copied: Sequence[int] = (3,)) -> None:
        self.decoded = 0
        images = IMAGES[::4].copy()
        splits = {}
        for seed, split, rows in ((2, "attacker", copied), (3, "defender", [0])):
            training = noise(seed)
            training[list(rows)] = jpeg(images[list(rows)], 75)
            numbers = people if split == "attacker" else [5, 5, 6, 6]
            splits[split] = faces(seed, numbers, split, training)
        super().__init__(splits["attacker"], faces(1, [1, 1, 2, 2], "evaluation", images), splits["defender"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_training_copies_of_measured_photographs_go_and_everything_else_stays(cache: Path) -> None:
    whole = Doubled()
    with pytest.raises(UserError, match=r"1 photographs .* attacker's") as caught:
        check_disjoint(whole, ["attacker"])
    assert "--drop-duplicates" in caught.value.hint and "drop_duplicates = true" in caught.value.hint
    less = WithoutCopies(whole)
    check_disjoint(less)
    check_disjoint(less, hashes_of=kept_perceptual_hashes)
    assert less.dropped("attacker") == ["attacker/4/3"] and less.dropped("defender") == ["defender/5/0"]
    assert list(less.attacker.names) == ["attacker/3/0", "attacker/3/1", "attacker/4/2"]
    np.testing.assert_array_equal(less.attacker.load(range(3)), whole.attacker.load(range(3)))
    assert less.attacker.identities.tolist() == [3, 3, 4] and len(less.defender) == 3
    assert less.evaluation is whole.evaluation
    assert (less.name, less.version, less.card) == ("doubled", 3, whole.card)


def test_the_revision_is_another_and_the_same_each_time(cache: Path) -> None:
    less = WithoutCopies(Doubled())
    assert less.revision == WithoutCopies(Doubled()).revision != Doubled.revision
    assert less.revision.startswith("doubled-")
    assert not cache.exists(), "no image was looked at"


def test_images_are_looked_at_once_a_revision(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    before = disjoint_splits._decoded

    def counted(dataset: FaceDataset, split: disjoint_splits.Split) -> disjoint_splits.PerceptualHashes:
        looked.append(split)
        return before(dataset, split)

    monkeypatch.setattr(disjoint_splits, "_decoded", counted)
    with pytest.raises(UserError):
        check_disjoint(Doubled(), hashes_of=kept_perceptual_hashes)
    for _ in range(2):
        less = WithoutCopies(Doubled())
        check_disjoint(less, hashes_of=kept_perceptual_hashes)
        assert len(less.attacker) == 3
    assert sorted(looked) == ["attacker", "defender", "evaluation"]
    np.testing.assert_array_equal(kept_perceptual_hashes(less, "attacker"), perceptual_hashes(less.attacker.batches(2)))


def test_people_who_are_shared_are_refused_all_the_same(cache: Path) -> None:
    with pytest.raises(UserError, match=r"1 people .* by their number"):
        check_disjoint(WithoutCopies(Doubled(people=[3, 3, 2, 2])), ["attacker"])


def test_an_attacker_who_is_left_with_one_person_is_refused(cache: Path) -> None:
    less = WithoutCopies(Doubled(copied=[2, 3]))
    with pytest.raises(UserError, match="2 copies of measured photographs the attacker is left with 1 people"):
        _ = less.attacker


def test_it_can_be_copied(cache: Path) -> None:
    """A copy is made before it holds anything: asking it for what it has not must not go round in circles."""
    assert copy.copy(WithoutCopies(Doubled())).dropped("attacker") == ["attacker/4/3"]
