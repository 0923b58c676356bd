"""LFW and CelebA, which come with lists: what prepare writes runs, and a corrected list costs no work twice."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_photographs import ALIGNED, CLEAR, FACES, encoded, noise, packed, photograph, tar, tree, write
from PIL import Image

from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets import preparation as module
from ppfr_bench.datasets.alignment import TEMPLATE
from ppfr_bench.datasets.opening import open_dataset
from ppfr_bench.datasets.preparation import Options, prepare
from ppfr_bench.errors import UserError
from ppfr_bench.suites import load_suite


@pytest.mark.assets
def test_lfw_is_whole_where_a_face_is_not_found(tmp_path: Path) -> None:
    """Its protocol needs every photo: where no face is found it is cropped where the others' faces are, and named."""
    lines, files = ["10\t1"], {}
    for fold in range(10):
        a, b = f"Ann_{fold}", f"Bob {fold}"
        files[f"lfw/{a}/{a}_0001.jpg"] = encoded(photograph(CLEAR[fold % 4]), "JPEG")
        files[f"lfw/{a}/{a}_0002.jpg"] = encoded(photograph(CLEAR[fold % 4], 140), "JPEG")
        files[f"lfw/{b}/{b}_0001.jpg"] = encoded(photograph(CLEAR[(fold + 1) % 4]), "JPEG")
        lines += [f"{a}\t1\t2", f"{a}\t1\t{b}\t1"]
    files["lfw/Bob 3/Bob 3_0001.jpg"] = encoded(Image.new("RGB", (280, 260), (9, 60, 90)), "JPEG")
    files["lfw/Eve/Eve_0001.jpg"] = noise(0)  # not in the protocol
    pairs = write(tmp_path / "lists", {"pairs.txt": "\n".join(lines).encode()}) / "pairs.txt"
    archive = tar(tmp_path / "lfw.tgz", files)
    with pytest.raises(UserError, match=r"--pairs FILE"):
        prepare("lfw", archive, tmp_path / "out")
    report = prepare("lfw", archive, tmp_path / "out", Options(pairs=pairs))
    assert report["kept"] == report["images"] == 30 and report["reasons"] == {"not in pairs.txt": 1}
    assert report["placed_without_a_face"] == ["lfw/Bob 3/Bob 3_0001.jpg"]
    assert report["pairs"] == {"pairs.csv": {"kept": 20, "lost": 0}}
    assert len(load_dataset("lfw", {"root": str(tmp_path / "out")}).canary[1]) == 20
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "report.json").unlink()
    (tmp_path / "out" / "images" / "Bob 3" / "Bob 3_0001.jpg").unlink()
    prepare("lfw", archive, tmp_path / "out", Options(pairs=pairs))
    assert tree(tmp_path / "out") == before


def lfw_crops(root: Path, kind: str = "PNG", suffix: str = ".png") -> Path:
    """Twenty people in ten folds, aligned, with pairs.txt; every photograph is noise of its own."""
    lines, files = ["10\t1"], {}
    for fold in range(10):
        a, b = f"Ann_{fold}", f"Bob_{fold}"
        for k, (person, i) in enumerate(((a, 1), (a, 2), (b, 1))):
            image = Image.open(io.BytesIO(noise(10 * fold + k)))
            files[f"{person}/{person}_{i:04d}{suffix}"] = encoded(image, kind)
        lines += [f"{a}\t1\t2", f"{a}\t1\t{b}\t1"]
    return write(root, files | {"pairs.txt": "\n".join(lines).encode()})


def opened(next_command: str) -> Any:
    """The data set of a printed command, opened as ``run`` does."""
    words = shlex.split(next_command)
    assert words[:2] == ["ppfr-bench", "run"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    settings = [value for name, value in pairs if name == "--set"]
    options = {name: value for name, value in pairs if name != "--set"}
    settings.append(f"dataset.root={options['--dataset-root']}")
    suite = load_suite(words[2], tuple(settings), options.get("--dataset"))
    return open_dataset(suite.dataset)


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("BMP", ".bmp"), ("WEBP", ".webp"), ("JPEG", ".jpeg"),
                                              ("TIFF", ".tif")])  # fmt: skip
def test_what_prepare_prints_runs_on_what_it_wrote(kind: str, suffix: str, tmp_path: Path) -> None:
    report = prepare("lfw", lfw_crops(tmp_path / "in", kind, suffix), tmp_path / "out", ALIGNED)
    assert report["kept"] == 30 and len(opened(report["next"]).canary[1]) == 20
    files = {name: content for name, content in tree(tmp_path / "in").items() if name != "pairs.txt"}
    report = prepare("folder", write(tmp_path / "people", files), tmp_path / "a folder", ALIGNED)
    assert report["kept"] == 30 and "'" in report["next"], "a name with a space is quoted"
    assert len(opened(report["next"]).pairs) > 0


def test_a_missing_photograph_costs_its_pairs_and_no_more(tmp_path: Path) -> None:
    source = lfw_crops(tmp_path / "in")
    (source / "Ann_7" / "Ann_7_0002.png").unlink()
    report = prepare("lfw", source, tmp_path / "out", ALIGNED)
    assert {"what": "Ann_7/Ann_7_0002.jpg", "why": "named by pairs.txt, and not in the source"} in report["dropped"]
    assert report["pairs"] == {"pairs.csv": {"kept": 19, "lost": 1}}
    assert "dataset.missing=skip" in report["next"] and len(opened(report["next"]).canary[1]) == 19
    with pytest.raises(UserError, match=r"line 16 names images/Ann_7/Ann_7_0002.jpg.*no such file") as refused:
        load_dataset("lfw", {"root": str(tmp_path / "out")})
    assert "--set dataset.missing=skip" in refused.value.hint


def test_two_files_of_one_photograph_are_not_taken_one_for_the_other(tmp_path: Path) -> None:
    prepare("lfw", lfw_crops(tmp_path / "in"), tmp_path / "out", ALIGNED)
    write(tmp_path / "out", {"images/Ann_0/Ann_0_0001.jpg": noise(77)})
    with pytest.raises(UserError, match=r"holds Ann_0_0001.jpg and Ann_0_0001.png"):
        load_dataset("lfw", {"root": str(tmp_path / "out")})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            "Ann_0 1 2 3 4",
            "line 2: expected a pair of 3 or 4 words with tabs .a name with spaces needs them., got spaces",
        ),
        ("Ann_0\tone\t2", "line 2: expected a photo's number, got 'one'"),
        ("Ann_0\t1\t1", "line 2: Ann_0 1 is paired with itself"),
        ("Ann_0\t1\tAnn_0\t2", "line 2: a pair of two people names Ann_0 twice"),
        ("", "expected 20 pairs, as line 1 says, got 19"),
    ],
)
def test_faults_of_the_pairs_are_found_first_and_a_corrected_list_aligns_nothing_again(
    wrong: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lfw_crops(tmp_path / "in")
    right = (source / "pairs.txt").read_text()
    lines = right.splitlines()
    (source / "pairs.txt").write_text("\n".join([lines[0], *([wrong] if wrong else []), *lines[2:]]) + "\n")
    with pytest.raises(UserError, match=says):
        prepare("lfw", source, tmp_path / "out", ALIGNED)
    assert not (tmp_path / "out").exists(), "something was aligned before the list was read"
    other = right.replace("Ann_0\t1\t2", "Ann_0\t2\t1").replace("Ann_9\t1\tBob_9\t1", "Ann_9\t2\tBob_9\t1")
    (source / "pairs.txt").write_text(other.replace("Ann_3\t1\t2", "Ann_3\t1\t3"))
    prepare("lfw", source, tmp_path / "out", ALIGNED)
    done: list[str] = []
    work = module.work
    monkeypatch.setattr(module, "work", lambda task: done.append(task.name) or work(task))
    (source / "pairs.txt").write_text("\ufeff" + right.replace("\n", "\r\n"), encoding="utf-8")
    prepare("lfw", source, tmp_path / "out", ALIGNED)
    assert done == ["Ann_3/Ann_3_0002.png"], "what was aligned already is aligned again"
    prepare("lfw", source, tmp_path / "whole", ALIGNED)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    spaced = right.replace("\t", " ")
    (source / "pairs.txt").write_text(spaced)
    prepare("lfw", source, tmp_path / "spaces", ALIGNED)
    pairs = [load_dataset("lfw", {"root": str(tmp_path / to)}).pairs for to in ("spaces", "whole")]
    assert np.array_equal(pairs[0].left, pairs[1].left) and np.array_equal(pairs[0].same, pairs[1].same)


def test_a_photograph_that_the_list_drops_goes_from_the_folder(tmp_path: Path) -> None:
    source = lfw_crops(tmp_path / "in")
    right = (source / "pairs.txt").read_text()
    prepare("lfw", source, tmp_path / "out", ALIGNED)
    lines = right.splitlines()
    (source / "pairs.txt").write_text("\n".join(["9\t1", *lines[1:-2]]))
    prepare("lfw", source, tmp_path / "out", ALIGNED)
    assert not (tmp_path / "out" / "images" / "Ann_9").exists()
    prepare("lfw", source, tmp_path / "whole", ALIGNED)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_celeba_does_not_mix_its_two_sets_of_images(tmp_path: Path) -> None:
    files = {f"{folder}/{i:06d}.jpg": noise(10 * k + i)
             for k, folder in enumerate(("img_align_celeba", "img_celeba")) for i in range(3)}  # fmt: skip
    source = write(tmp_path / "in", files | {"identity_CelebA.txt": b"000000.jpg 1\n000001.jpg 1\n000002.jpg 2\n"})
    with pytest.raises(UserError, match=r"images in the wild .* and others"):
        prepare("celeba", source, tmp_path / "out", ALIGNED)
    for path in (source / "img_celeba").iterdir():
        path.unlink()
    for path in (source / "img_align_celeba").iterdir():
        path.rename(path.with_suffix(".png"))
    assert prepare("celeba", source, tmp_path / "out", ALIGNED)["people"] == 2, "CelebA's PNG files are listed as .jpg"


def test_celeba_uses_its_landmarks(tmp_path: Path) -> None:
    moved = TEMPLATE * 1.25 + [20, 30]
    files, people, marks = {}, [], ["3", "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y a b c d"]
    for i in range(3):
        room = Image.new("RGB", (178, 218), (90, 100, 110))
        room.paste(Image.fromarray(FACES[i].transpose(1, 2, 0)).resize((140, 140), Image.Resampling.BICUBIC), (20, 30))
        files[f"img_align_celeba/{i + 1:06d}.jpg"] = encoded(room, "JPEG")
        people.append(f"{i + 1:06d}.jpg {i // 2 + 7}")
        marks.append(f"{i + 1:06d}.jpg " + " ".join(f"{value:.0f}" for value in moved.ravel()))
    files["img_align_celeba/000009.jpg"] = files["img_align_celeba/000001.jpg"]
    lists = {"identity_CelebA.txt": "\n".join(people), "list_landmarks_align_celeba.txt": "\n".join(marks)}
    archive = packed(tmp_path / "img_align_celeba.zip", files)
    with pytest.raises(UserError, match="--identities FILE"):
        prepare("celeba", archive, tmp_path / "out")
    write(tmp_path, {name: text.encode() for name, text in lists.items()})
    report = prepare("celeba", archive, tmp_path / "out")
    assert (report["kept"], report["people"]) == (3, 2)
    assert report["reasons"] == {"no identity in the list": 1}
    for i, person in enumerate((7, 7, 8)):
        crop = np.asarray(Image.open(tmp_path / "out" / "images" / str(person) / f"{i + 1:06d}.jpg")).astype(float)
        assert np.abs(crop - FACES[i].transpose(1, 2, 0)).mean() < 6
