"""Data sets: disjoint identities, honest pairs, and a word for whatever is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfr_bench.api import FaceDataset
from ppfr_bench.assets import cache_dir
from ppfr_bench.datasets import load_dataset, synthetic
from ppfr_bench.datasets.alignment import TEMPLATE, align, similarity
from ppfr_bench.datasets.faces import read_image
from ppfr_bench.datasets.pairs import gallery_and_targets, generate_pairs
from ppfr_bench.errors import UserError

SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {SHARED / name}: set PPFR_BENCH_SHARED to the validation data")
    return SHARED / name


def make_people(root: Path, people: int, photos: int = 3) -> Path:
    random = np.random.default_rng(0)
    for person in range(people):
        folder = root / f"person_{person:02d}"
        folder.mkdir(parents=True)
        for photo in range(photos):
            pixels = random.integers(0, 256, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{photo}.png")
    return root


def check_invariants(dataset: FaceDataset) -> None:
    evaluation, attacker = set(dataset.evaluation.identities), set(dataset.attacker.identities)
    assert evaluation and attacker and not evaluation & attacker
    identities, pairs = dataset.evaluation.identities, dataset.pairs
    assert ((identities[pairs.left] == identities[pairs.right]) == pairs.same).all()
    assert (pairs.left != pairs.right).all()
    people_of = [
        set(identities[np.r_[pairs.left[pairs.fold == f], pairs.right[pairs.fold == f]]]) for f in set(pairs.fold)
    ]
    assert sum(map(len, people_of)) == len(set.union(*people_of)), "folds share people"
    assert not set(dataset.gallery) & set(dataset.targets)
    assert set(identities[dataset.targets]) <= set(identities[dataset.gallery])
    assert len(set(identities[dataset.gallery])) == len(dataset.gallery)
    image = dataset.evaluation.load([0, len(dataset.evaluation) - 1])
    assert image.shape == (2, 3, 112, 112) and image.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "config", "pairs", "canary"),
    [
        ("lfw", {"root": "lfw"}, 3000, 6000),
        ("lfw", {"root": "lfw", "pairs_per_fold": 60, "targets": 50, "gallery": 60}, 300, 6000),
        ("cfp", {"root": "cfp"}, 3500, 7000),
        ("cfp", {"root": "cfp", "protocol": "FP"}, 3500, 7000),
    ],
)
def test_protocols(name: str, config: dict[str, Any], pairs: int, canary: int) -> None:
    dataset = load_dataset(name, config | {"root": str(shared(config["root"]))})
    check_invariants(dataset)
    assert len(dataset.pairs) == pairs and len(dataset.canary[1]) == canary
    assert dataset.pairs.same.mean() == dataset.canary[1].same.mean() == 0.5
    if name == "cfp":
        poses = np.asarray(dataset.poses)
        left, right = config.get("protocol", "FF")
        known = {"F": "frontal", "P": "profile"}
        assert set(poses[dataset.pairs.left]) == {known[left]} and set(poses[dataset.pairs.right]) == {known[right]}
    else:
        assert dataset.poses is None


def test_lfw_with_the_people_of_cfp() -> None:
    config = {"root": str(shared("lfw")), "cfp_root": str(shared("cfp"))}
    alone, joined = load_dataset("lfw", config | {"cfp_root": None}), load_dataset("lfw", config)
    check_invariants(joined)
    assert joined.attacker.names[: len(alone.attacker)] == alone.attacker.names
    extra = list(joined.attacker.names[len(alone.attacker) :])
    overlap = [line.split("\t") for line in (shared("cfp") / "lfw_name_overlap.txt").read_text().splitlines()]
    people = {name.split("/")[2] for name in extra}
    assert len(extra) == (500 - len(overlap)) * 14 and not people & {person for person, *_ in overlap}
    assert len(set(joined.attacker.identities)) == len(set(alone.attacker.identities)) + len(people)
    assert joined.revision != alone.revision
    assert joined.attacker.load([len(joined.attacker) - 1]).shape == (1, 3, 112, 112)


def test_folder_with_generated_pairs(tmp_path: Path) -> None:
    root = make_people(tmp_path / "a", 8)
    config = {"root": str(root), "folds": 2}
    dataset = load_dataset("folder", config)
    check_invariants(dataset)
    assert load_dataset("folder", config).revision == dataset.revision
    elsewhere = make_people(tmp_path / "b", 8)
    assert load_dataset("folder", config | {"root": str(elsewhere)}).revision == dataset.revision, "depends on the path"
    (root / "person_00" / "0.png").write_bytes((root / "person_01" / "0.png").read_bytes())
    assert load_dataset("folder", config).revision != dataset.revision, "does not depend on the content"


def test_folder_with_a_file_of_pairs(tmp_path: Path) -> None:
    root = make_people(tmp_path, 6)
    lines = ["person_00/0.png,person_00/1.png,1,0", "person_00/0.png,person_01/0.png,0,0",
             "person_02/0.png,person_02/1.png,1,1", "person_02/0.png,person_03/0.png,0,1"]  # fmt: skip
    (root / "pairs.csv").write_text("\n".join(lines))
    dataset = load_dataset("folder", {"root": str(root), "pairs": "pairs.csv"})
    check_invariants(dataset)
    assert len(dataset.pairs) == 4 and len(set(dataset.attacker.identities)) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("person_00/0.png,person_00/9.png,1", "line 1 names person_00/9.png, and there is no such file"),
        ("person_00/0.png,../secret.png,1", "lies outside"),
        ("person_00/0.png,/etc/passwd,1", "lies outside"),
        ("person_00/0.png,pairs.csv,0", "line 1: pairs.csv is no PERSON/photo"),
        ("person_00/0.png,person_00/0.png,1", "paired with itself"),
        ("person_00/0.png,person_01/0.png", "expected left,right,same"),
        ("person_00/0.png,person_01/0.png,yes", "expected left,right,same"),
        ("person_00/0.png,person_01/0.png,1,0\nperson_00/0.png,person_00/1.png,0,1", "its folders disagree"),
        ("person_00/0.png,person_00/1.png,1,0", "both genuine and impostor"),
        ("", "holds no pair"),
    ],
)
def test_wrong_pairs_are_explained(line: str, says: str, tmp_path: Path) -> None:
    root = make_people(tmp_path / "root", 4)
    (tmp_path / "secret.png").write_bytes(b"")
    (root / "pairs.csv").write_text(line)
    with pytest.raises(UserError, match=says):
        load_dataset("folder", {"root": str(root), "pairs": "pairs.csv"})


def test_pairs_that_are_no_text(tmp_path: Path) -> None:
    root = make_people(tmp_path, 4)
    (root / "pairs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"pairs\.csv is text in UTF-16, expected UTF-8"):
        load_dataset("folder", {"root": str(root), "pairs": "pairs.csv"})


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    root = make_people(tmp_path, 8)
    (root / ".cache").mkdir()
    (root / ".cache" / "0.png").write_bytes(b"no image")
    dataset = load_dataset("folder", {"root": str(root), "folds": 2})
    assert len(dataset.evaluation) + len(dataset.attacker) == 24


def test_links_are_refused(tmp_path: Path) -> None:
    outside = make_people(tmp_path / "outside", 1) / "person_00"
    for name, to in (
        ("person_00/link.png", outside / "0.png"), ("person_99", outside), ("person_00/within.png", "1.png"),
        ("person_98", "person_00"),
    ):  # fmt: skip
        root = make_people(tmp_path / name.replace("/", "_"), 8)
        (root / name).symlink_to(to)
        with pytest.raises(UserError, match=f"{name} in .* is a link, which is not followed"):
            load_dataset("folder", {"root": str(root), "folds": 2})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("person_00/session/0.png", "expected PERSON/photo, got an image 2 folders deep"),
        ("0.png", "expected PERSON/photo, got an image in no folder"),
        ("person_00/0.jp2", "not an image of a format that is read"),
        ("Person_00/0.png", "the people 'Person_00' and 'person_00' differ in capitals"),
    ],
)
def test_no_image_is_lost_or_mixed_up_in_silence(name: str, says: str, tmp_path: Path) -> None:
    root = make_people(tmp_path, 8)
    (root / name).parent.mkdir(exist_ok=True, parents=True)
    (root / name).write_bytes((root / "person_00" / "0.png").read_bytes() if "jp2" not in name else b"\0\0\0\x0cjP  ")
    with pytest.raises(UserError, match=says):
        load_dataset("folder", {"root": str(root), "folds": 2})


def test_photos_of_other_formats_count_and_lists_do_not(tmp_path: Path) -> None:
    root = make_people(tmp_path, 8)
    picture = Image.open(root / "person_00" / "0.png")
    for i, (suffix, kind) in enumerate(
        ((".tif", "TIFF"), (".pgm", "PPM"), (".jfif", "JPEG"), (".gif", "GIF"), ("", "PNG"))
    ):
        (picture.convert("L") if suffix == ".pgm" else picture).save(root / "person_01" / f"new{i}{suffix}", kind)
    (root / "person_01" / "notes.txt").write_text("text")
    dataset = load_dataset("folder", {"root": str(root), "folds": 2})
    assert len(dataset.evaluation) + len(dataset.attacker) == 24 + 5


def test_folders_that_cannot_be_measured(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root, says in (
        (tmp_path / "empty", "no image in"),
        (make_people(tmp_path / "one", 1), "one identity only"),
        (make_people(tmp_path / "few", 5), "folds need 20 measured people"),
        (make_people(tmp_path / "single", 60, photos=1), "genuine"),
        (tmp_path / "nowhere", "expected the folder"),
    ):
        with pytest.raises(UserError, match=says):
            load_dataset("folder", {"root": str(root)})


def test_lfw_names_the_missing_image(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("1\t1\nAbel\t1\t4\nAbel\t1\tBo\t2\n")
    with pytest.raises(UserError, match=r"line 2 names images/Abel/Abel_0001\.jpg, and there is no such file"):
        load_dataset("lfw", {"root": str(tmp_path)})


def test_images_of_another_size_or_depth(tmp_path: Path) -> None:
    Image.new("RGB", (112, 96)).save(tmp_path / "face.png")
    with pytest.raises(UserError, match=r"face.png: expected an aligned image of 112x112 pixels, got 112x96"):
        read_image(tmp_path / "face.png", "face.png")
    Image.new("F", (112, 112)).save(tmp_path / "face.tif")
    with pytest.raises(UserError, match=r"face.tif: grey in 32-bit floating point, expected 8 or 16 bits"):
        read_image(tmp_path / "face.tif", "face.tif")
    Image.new("L", (112, 112), 9).save(tmp_path / "face.png")
    assert (read_image(tmp_path / "face.png", "face.png") == 9).all()


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 112\n", b"\x89PNG\r\n\x1a\nbroken"]
)
def test_files_that_are_no_images(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "face.png").write_bytes(content)
    with pytest.raises(UserError, match="not an image that can be read"):
        read_image(tmp_path / "face.png", "face.png")


def test_a_truncated_image(tmp_path: Path) -> None:
    make_people(tmp_path, 1, 1)
    path = tmp_path / "person_00" / "0.png"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not an image that can be read"):
        read_image(path, "0.png")


def test_alignment_finds_the_similarity_it_was_given() -> None:
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = (TEMPLATE - [4, -6]) @ np.linalg.inv(turn).T
    found = similarity(source, TEMPLATE)
    np.testing.assert_allclose(found, np.column_stack([turn, [4, -6]]), atol=1e-9)


def test_alignment_of_an_aligned_face_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 112, 112), dtype=np.uint8)
    moved = align(image, TEMPLATE).astype(int) - image
    assert np.abs(moved).max() <= 1  # Pillow rounds down


def test_generated_pairs_are_balanced_and_repeatable() -> None:
    identities = np.repeat(np.arange(30), 4)
    pairs, again = (generate_pairs(identities, 10, seed=5) for _ in range(2))
    assert np.array_equal(pairs.left, again.left) and pairs.same.mean() == 0.5 and len(pairs) == 2 * 30 * 6


def test_pairs_of_very_many_photos_stay_distinct_and_balanced() -> None:
    identities = np.repeat(np.arange(20), 400)  # 4,000 photos a fold: too many to list their pairs
    pairs = generate_pairs(identities, 2, seed=5)
    assert ((identities[pairs.left] == identities[pairs.right]) == pairs.same).all() and pairs.same.mean() == 0.5
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == len(pairs) == 2 * 2 * 100
    assert not set(identities[pairs.left[pairs.fold == 0]]) & set(identities[pairs.right[pairs.fold == 1]])


def test_targets_are_spread_over_people_and_distractors_come_last() -> None:
    identities = np.array([0, 1, 1, 1, 2, 2, 3])
    gallery, targets = gallery_and_targets(identities, gallery=3, targets=2)
    assert identities[gallery].tolist() == [1, 2, 0] and sorted(identities[targets]) == [1, 2]


@pytest.mark.assets
def test_a_variation_that_no_identity_survives_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").symlink_to(cache_dir() / "assets")
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(synthetic, "_HOPELESS", 32)
    config = {"variation": 0.99, "evaluation_identities": 4, "evaluation_images": 8, "folds": 2}
    with pytest.raises(UserError, match=r"only 0 of 32 candidates.*\n.*Lower the variation"):
        _ = load_dataset("synthetic", config).evaluation


@pytest.mark.assets
def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match=r"cannot keep the synthetic data set under /proc/nowhere"):
        _ = load_dataset("synthetic", {}).evaluation


@pytest.mark.assets
def test_synthetic_identities_are_what_they_were() -> None:
    config = {
        "evaluation_identities": 12,
        "evaluation_images": 3,
        "attacker_identities": 24,
        "attacker_images": 2,
        "folds": 2,
    }
    dataset = load_dataset("synthetic", config)
    check_invariants(dataset)
    more = load_dataset("synthetic", config | {"evaluation_identities": 14})
    same = dataset.evaluation.load(range(36))
    assert np.array_equal(same, more.evaluation.load(range(36))), "an identity depends on how many there are"
