"""Images protected elsewhere come back to the images they were made from, all of them, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ppfr_bench import registry
from ppfr_bench.api import Unavailable, UserError, to_bytes, to_float
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.datasets.faces import subset
from ppfr_bench.protection import precomputed
from ppfr_bench.testing import example_faces

FACES = example_faces()
DATASET: Any = SimpleNamespace(
    evaluation=subset(FACES, range(6)), attacker=subset(FACES, range(4, 10)), name="tiny", revision="r1"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export whose tool turned every image into its negative."""
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    assert precomputed.export(DATASET, work) == 10, "two images lie in both splits"
    (work / "protected").mkdir()
    for path in (work / "clear").glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(work / "protected" / path.name)
    return work


def built(key: str) -> Any:
    return registry.build("defense", "precomputed", {"images": key})


def test_every_image_gets_its_own_version_back(folder: Path) -> None:
    images = FACES.load([7, 0, 5, 0])
    released = built(precomputed.take_back(folder)).protect(to_float(images), torch.Generator())
    assert np.array_equal(to_bytes(released), 255 - images)


def test_names_tell_nobody(folder: Path) -> None:
    people = {name.rpartition("/")[0] for name in FACES.names} | set(FACES.names)
    text = (folder / "manifest.json").read_text()
    assert not any(person and person in text for person in people)
    assert sorted(json.loads(text)["images"]) == sorted(path.stem for path in (folder / "clear").iterdir())


def test_an_export_that_was_cut_off_goes_on(folder: Path) -> None:
    lost = sorted((folder / "clear").iterdir())[3]
    before = {path: path.stat().st_mtime_ns for path in (folder / "clear").iterdir() if path != lost}
    content = lost.read_bytes()
    lost.unlink()
    assert precomputed.export(DATASET, folder) == 10
    assert lost.read_bytes() == content
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_digest_is_that_of_the_content(folder: Path) -> None:
    key = precomputed.take_back(folder)
    assert precomputed.take_back(folder) == key
    some = sorted((folder / "protected").iterdir())[0]
    Image.new("RGB", (112, 112)).save(some)
    assert precomputed.take_back(folder) != key


@pytest.mark.parametrize("how", ["zeroed", "cut short", "without a hash", "without names"])
def test_what_a_disk_has_damaged_is_refused_and_taken_back_again(how: str, folder: Path) -> None:
    key = precomputed.take_back(folder)
    path = precomputed._path(key)
    notes, whole = path.with_suffix(".json"), path.read_bytes()
    if how == "without a hash":  # as earlier versions have written it
        notes.write_text(json.dumps(json.loads(notes.read_text())["names"]))
    elif how == "without names":
        notes.unlink()
    else:
        path.write_bytes(whole[:200] + (bytes(len(whole) - 200) if how == "zeroed" else b""))
    with pytest.raises(UserError, match="is damaged"):
        precomputed.Store(key)
    assert precomputed.take_back(folder) == key and path.read_bytes() == whole
    images = FACES.load([7, 0])
    assert np.array_equal(precomputed.Store(key)[images], 255 - images)


def test_what_is_missing_too_many_or_no_face_is_named(folder: Path) -> None:
    some = sorted((folder / "protected").iterdir())[0]
    content = some.read_bytes()
    some.unlink()
    with pytest.raises(UserError, match=f"1 of 10 images without a protected version, among them {some.stem}"):
        precomputed.take_back(folder)
    some.write_bytes(content)
    (folder / "protected" / "holiday.png").write_bytes(content)
    with pytest.raises(UserError, match="1 of 10 images that nobody asked for, among them holiday"):
        precomputed.take_back(folder)
    (folder / "protected" / "holiday.png").unlink()
    Image.new("RGB", (64, 64)).save(some)
    with pytest.raises(UserError, match="112x112"):
        precomputed.take_back(folder)
    some.write_bytes(b"no image")
    with pytest.raises(UserError, match="not an image"):
        precomputed.take_back(folder)
    with pytest.raises(UserError, match="holds no export"):
        precomputed.take_back(folder / "clear")


def test_an_image_of_the_attackers_own_choosing_is_not_there(folder: Path) -> None:
    defense = built(precomputed.take_back(folder))
    with pytest.raises(Unavailable, match="of its own choosing"):
        defense.protect(to_float(255 - FACES.load([0])), torch.Generator())


def test_without_images_it_says_what_to_type(folder: Path) -> None:
    with pytest.raises(UserError, match="--precomputed FOLDER"):
        built("").protect(to_float(FACES.load([0])), torch.Generator())
    assert check_plugin("defense", "precomputed") == []


def test_two_images_of_one_name_and_another_export_are_refused(folder: Path) -> None:
    some = sorted((folder / "protected").iterdir())[0]
    Image.open(some).save(some.with_suffix(".bmp"))
    with pytest.raises(UserError, match=f"two images of the name {some.stem}"):
        precomputed.take_back(folder)
    some.with_suffix(".bmp").unlink()
    other = SimpleNamespace(**vars(DATASET) | {"revision": "r2"})
    with pytest.raises(UserError, match=r"holds the export of other data \(r1\)"):
        precomputed.export(other, folder)
    precomputed.export(DATASET, folder)


def test_any_lossless_format_comes_back_and_hidden_files_do_not(folder: Path) -> None:
    key = precomputed.take_back(folder)
    for path, suffix in zip(sorted((folder / "protected").iterdir()), (".bmp", ".tif", ".ppm"), strict=False):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    (folder / "protected" / ".DS_Store").write_bytes(b"macOS")
    assert precomputed.take_back(folder) == key


def test_an_export_does_not_lie_in_the_data_set(tmp_path: Path) -> None:
    dataset: Any = SimpleNamespace(**vars(DATASET), root=tmp_path / "faces")
    (tmp_path / "faces").mkdir()
    for folder in (tmp_path / "faces", tmp_path / "faces" / "clear"):
        with pytest.raises(UserError, match="lies in the data set"):
            precomputed.export(dataset, folder)
    assert precomputed.export(dataset, tmp_path / "beside") == 10
