"""Data sets made ready: nothing in a source is trusted, nothing is lost unsaid, and a kill costs no byte."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_photographs import ALIGNED, CLEAR, PEOPLE, encoded, noise, packed, photograph, tar, tree, write
from PIL import Image

from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets import preparation as module
from ppfr_bench.datasets.alignment import TEMPLATE
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, main_face
from ppfr_bench.datasets.preparation import Options, prepare
from ppfr_bench.datasets.preparation.source import open_source
from ppfr_bench.errors import UserError


def test_a_folder_a_tar_and_a_zip_give_the_same_bytes_and_load(tmp_path: Path) -> None:
    sources = (write(tmp_path / "in", PEOPLE), tar(tmp_path / "in.tgz", PEOPLE), packed(tmp_path / "in.zip", PEOPLE))
    trees = []
    for i, source in enumerate(sources):
        report = prepare("folder", source, tmp_path / f"out{i}", ALIGNED)
        assert (report["kept"], report["people"], report["dropped"]) == (24, 8, [])
        trees.append({k: v for k, v in tree(tmp_path / f"out{i}").items() if k.startswith("images/")})
    assert trees[0] == trees[1] == trees[2]
    assert sorted(trees[0].values()) == sorted(PEOPLE.values()), "kept byte for byte"
    dataset = load_dataset("folder", {"root": str(tmp_path / "out0" / "images"), "folds": 2})
    assert len(dataset.evaluation) + len(dataset.attacker) == 24


def link(name: str, kind: bytes, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("../out/a/1.png", (), "lies outside of it"),
        ("/etc/a/1.png", (), "lies outside of it"),
        ("x/../../a/1.png", (), "lies outside of it"),
        ("a\\..\\1.png", (), "lies outside of it"),
        ("C:/a/1.png", (), "lies outside of it"),
        ("a/1.png", (link("a/2.png", tarfile.SYMTYPE, "/etc/passwd"),), "link or a device"),
        ("a/1.png", (link("a/2.png", tarfile.LNKTYPE, "a/1.png"),), "link or a device"),
        ("a/1.png", (link("a/2.png", tarfile.FIFOTYPE, ""),), "link or a device"),
    ],
)
def test_an_archive_is_never_trusted(name: str, more: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        prepare("folder", tar(tmp_path / "bad.tar.gz", {name: noise(0)}, *more), tmp_path / "deep" / "out", ALIGNED)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"], "something was written"


def test_a_zip_is_not_trusted_either(tmp_path: Path) -> None:
    out = packed(tmp_path / "out.zip", {"../a/1.png": noise(0)})
    with pytest.raises(UserError, match="lies outside of it"):
        prepare("folder", out, tmp_path / "out", ALIGNED)
    linked = zipfile.ZipInfo("a/1.png")
    linked.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(linked, "/etc/passwd")
    with pytest.raises(UserError, match="link or a device"):
        prepare("folder", tmp_path / "link.zip", tmp_path / "out", ALIGNED)
    locked = bytearray(packed(tmp_path / "locked.zip", PEOPLE).read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag "encrypted" of every entry
        at = locked.find(mark)
        while at >= 0:
            locked[at + place] |= 1
            at = locked.find(mark, at + 1)
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(UserError, match="encrypted") as refused:
        prepare("folder", tmp_path / "locked.zip", tmp_path / "out", ALIGNED)
    assert "no password" in refused.value.hint
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(tar(tmp_path / "whole.tgz", PEOPLE).read_bytes()[:20000])
    with pytest.raises(UserError, match="broken"):
        prepare("folder", broken, tmp_path / "out", ALIGNED)


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (zipfile.ZIP_DEFLATED, "1.png cannot be read: Bad CRC-32"), (zipfile.ZIP_BZIP2, "compression of type 12"),
        (zipfile.ZIP_LZMA, "compression of type 14"),
    ],
)  # fmt: skip
def test_a_zip_is_unpacked_no_further_than_it_says(tmp_path: Path, method: int, says: str) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", method) as archive:
        archive.writestr("a/1.png", bytes(64 << 20))
    content = bytearray(bomb.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # This is the size that it says.
    bomb.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=says):
            list(open_source(bomb).read(["a/1.png"]))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_links_are_named_and_not_followed(tmp_path: Path) -> None:
    root = write(tmp_path / "in", PEOPLE)
    person = root / "vgg" / "train" / "n000000"
    secret = write(tmp_path / "else", {"s.png": noise(1)})
    (person / "out.png").symlink_to(secret / "s.png")
    (person / "within.png").symlink_to(root / "vgg" / "train" / "n000001" / "0000_01.png")
    (root / "vgg" / "train" / "n000099").symlink_to(secret)
    (root / "vgg" / "train" / "broken").symlink_to(tmp_path / "nowhere")
    report = prepare("folder", root, tmp_path / "out", ALIGNED)
    links = ("broken", "n000000/out.png", "n000000/within.png", "n000099")
    assert report["dropped"] == [
        {"what": f"vgg/train/{name}", "why": "a link, which is not followed"} for name in links
    ]
    assert (report["kept"], report["people"]) == (24, 8)


def test_every_file_is_in_the_report(tmp_path: Path) -> None:
    grey = Image.fromarray(np.random.default_rng(5).integers(0, 256, (112, 112), dtype=np.uint8))
    files = {
        "a/1.png": noise(1), "a/1.jpg": noise(2), "a/small.png": encoded(Image.new("RGB", (64, 64))),
        "a/grey.png": encoded(grey), "a/text.png": b"no image", "top.png": noise(3),
        "a/cut.png": noise(4)[:3000], "b/con:.png": noise(5), ".hidden/1.png": noise(6), "a/._1.png": b"macOS",
        "a/none": noise(7), "a/photo.heic": b"\0\0\0\x18ftypheic", "a/list.txt": b"text", "a/x.dat": b"text",
        "a/grey.tif": encoded(Image.fromarray(np.asarray(grey)[::-1]), "TIFF"),
        "a/grey2.pgm": encoded(Image.fromarray(np.asarray(grey)[:, ::-1]), "PPM"),
        "a/c.jfif": encoded(Image.open(io.BytesIO(noise(8))), "JPEG"),
    }  # fmt: skip
    report = prepare("folder", write(tmp_path / "in", files), tmp_path / "out", ALIGNED)
    reasons = {row["what"]: row["why"] for row in report["dropped"]}
    unread = "not an image that can be read"
    assert reasons.pop("a/cut.png").startswith(unread) and reasons.pop("a/photo.heic").startswith((unread, "HEIC"))
    assert reasons == {
        ".hidden": "hidden", "a/._1.png": "hidden",
        "a/1.png": "another image has the same person and name: a/1.jpg",
        "a/grey.tif": "another image has the same person and name: a/grey.png",
        "a/small.png": "expected an aligned image of 112x112 pixels, got 64x64",
        "a/text.png": unread, "a/x.dat": unread, "a/list.txt": "not an image",
        "top.png": "in no person's folder", "b/con:.png": "a name that not every file system can take",
    }  # fmt: skip
    assert {name for name in tree(tmp_path / "out") if name.startswith("images/")} == {
        f"images/a/{name}" for name in ("1.png", "grey.png", "none.png", "c.jpg", "grey2.png")
    }
    assert (tmp_path / "out" / "images" / "a" / "none.png").read_bytes() == noise(7), "kept byte for byte"
    shown = np.asarray(Image.open(tmp_path / "out" / "images" / "a" / "grey2.png"))
    assert np.array_equal(shown, np.repeat(np.asarray(grey)[:, ::-1, None], 3, axis=2))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["dropped"] == report["dropped"]
    lost = {name for name in files if not any(part.startswith(".") for part in name.split("/"))} - {*reasons}
    assert len(lost) == report["kept"] + 2, "a file is neither taken nor named"


def test_nothing_kept_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {f"p{i}/1.png": b"no image" for i in range(3)})
    with pytest.raises(UserError, match=r"not one of 3 images was kept: 3 not taken: not an image that can be read"):
        prepare("folder", source, tmp_path / "out", ALIGNED)
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["dropped"]) == 3
    with pytest.raises(UserError, match="no image found"):
        prepare("folder", write(tmp_path / "lists", {"a/b.txt": b"x"}), tmp_path / "out2", ALIGNED)


SESSIONS = {f"person_{p}/{session}/{i}.png": noise(100 * p + 10 * session + i)
            for p in range(4) for session in range(2) for i in range(2)}  # fmt: skip


def test_the_folder_that_names_the_person_is_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "in", SESSIONS)
    with pytest.raises(UserError, match="2 folders deep, as in person_0/0: which folder names the person") as refused:
        prepare("folder", source, tmp_path / "out", ALIGNED)
    assert "--person-level 1 (as in person_0: 4 people)" in refused.value.hint
    assert "--person-level 2 (as in person_0/0: 8 people)" in refused.value.hint
    people = {}
    for level in (1, 2):
        report = prepare("folder", source, tmp_path / f"{level}", Options(aligned=True, level=level))
        assert report["kept"] == 16
        people[level] = {name.split("/")[1] for name in tree(tmp_path / f"{level}") if name.startswith("images/")}
    assert people[1] == {f"person_{p}" for p in range(4)}
    assert people[2] == {f"person_{p}__{session}" for p in range(4) for session in range(2)}
    with pytest.raises(UserError, match="no image found"):
        prepare("folder", source, tmp_path / "3", Options(aligned=True, level=3))


def test_one_number_in_two_folders_is_two_people(tmp_path: Path) -> None:
    files = {f"{split}/{p:03d}/{i}.png": noise(100 * k + 10 * p + i)
             for k, split in enumerate(("train", "test")) for p in range(3) for i in range(2)}  # fmt: skip
    source = write(tmp_path / "in", files)
    with pytest.raises(UserError, match="which folder names the person"):
        prepare("folder", source, tmp_path / "out", ALIGNED)
    report = prepare("folder", source, tmp_path / "out", Options(aligned=True, level=2))
    assert (report["kept"], report["people"]) == (12, 6)
    mixed = write(tmp_path / "mixed", {"ann/1.png": noise(1), "bob/2020/1.png": noise(2)})
    with pytest.raises(UserError, match="2 folders deep, as in bob/2020"):
        prepare("folder", mixed, tmp_path / "out2", ALIGNED)


@pytest.mark.parametrize(
    "pair", [("Ann", "ann"), ("Jos\u00e9", "Jose\u0301"), ("a__b/c", "a/b__c")], ids=["capitals", "accent", "joined"]
)
def test_two_people_never_share_a_folder(pair: tuple[str, str], tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": noise(10 * k + i) for k, name in enumerate(pair) for i in range(2)}
    files |= {f"x/y/{i}.png": noise(30 + i) for i in range(2)} if "/" in pair[0] else {}
    with pytest.raises(UserError, match="would share one folder"):
        source = write(tmp_path / "in", files)
        prepare("folder", source, tmp_path / "out", Options(aligned=True, level=2 if "/" in pair[0] else None))


def test_names_that_are_not_utf8_are_spelt_out(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for k, person in enumerate((b"Jos\xe9", b"Ann", b"Bob")):
        folder = os.fsencode(source) + b"/" + person
        Path(os.fsdecode(folder)).mkdir(parents=True)
        for i in range(2):
            Path(os.fsdecode(folder + b"/\xff%d.png" % i)).write_bytes(noise(10 * k + i))
    report = prepare("folder", source, tmp_path / "out", ALIGNED)
    assert (report["kept"], report["people"]) == (6, 3)
    assert (tmp_path / "out" / "images" / "Jos%E9" / "%FF0.png").read_bytes() == noise(0)
    assert prepare("folder", source, tmp_path / "out", ALIGNED)["content"] == report["content"]


@pytest.mark.parametrize("stop", [0, 1, 7, 23])
def test_a_kill_costs_no_byte(tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "in", PEOPLE | {"vgg/train/n000001/no.png": b"no image"})
    prepare("folder", source, tmp_path / "whole", ALIGNED)
    take, left = module._Job._take, [stop]

    def dying(job: Any, outcome: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        take(job, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(module._Job, "_take", dying)
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", source, tmp_path / "cut", ALIGNED)
    written = sorted((tmp_path / "cut").rglob("*.png"))
    assert len(written) == min(stop, len(written)) and not (tmp_path / "cut" / "report.json").exists()
    if written:  # as a power cut may leave it
        written[0].write_bytes(written[0].read_bytes()[:100])
        written[0].with_name(f".{written[0].name}.tmp").write_bytes(b"half")
    prepare("folder", source, tmp_path / "cut", ALIGNED)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    prepare("folder", source, tmp_path / "cut", ALIGNED)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole"), "a second run changed something"


def made_photographs(root: Path) -> Path:
    """48 photographs of four people, and two that hold no face."""
    photos = {f"p{i}/{turn:02d}.png": encoded(photograph(i).rotate(turn - 6)) for i in CLEAR for turn in range(12)}
    return write(root, photos | {f"p0/room{i}.png": encoded(Image.new("RGB", (200, 200))) for i in range(2)})


def lfw_photographs(root: Path) -> Path:
    """Sixty of LFW; aligned already, they are searched and aligned again."""
    shared = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[2].parent / "shared" / "data")) / "lfw"
    if not shared.is_dir():
        pytest.skip(f"no {shared}: set PPFR_BENCH_SHARED to the validation data")
    chosen = sorted((shared / "images").rglob("*.jpg"))[:60]
    return write(root, {path.relative_to(shared / "images").as_posix(): path.read_bytes() for path in chosen})


@pytest.mark.assets
@pytest.mark.parametrize("source", [made_photographs, lfw_photographs])
def test_two_workers_and_a_real_kill_give_the_bytes_of_one_worker(source: Any, tmp_path: Path) -> None:
    """SIGKILL as soon as images are there; then the same command."""
    given, target = source(tmp_path / "in"), tmp_path / "cut"
    prepare("folder", given, tmp_path / "whole")
    command = [sys.executable, "-m", "ppfr_bench.cli", "data", "prepare", "folder", given, target, "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(target.rglob("[!.]*.jpg"))) < 3:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    done = tree(target)
    assert process.returncode == -9 and "report.json" not in done and len(workers) >= 2, "it was not cut in its midst"
    assert not psutil.wait_procs(workers, timeout=60)[1], "a worker outlives its parent"
    assert subprocess.run(command, capture_output=True, check=True).stdout
    assert 0 < len(done) < len(tree(target)) and tree(target) == tree(tmp_path / "whole")


def test_another_preparation_is_not_mixed_in(tmp_path: Path) -> None:
    source = write(tmp_path / "in", PEOPLE)
    prepare("folder", source, tmp_path / "out", ALIGNED)
    write(source, {"vgg/train/n000009/1.png": noise(99)})
    with pytest.raises(UserError, match="holds another preparation"):
        prepare("folder", source, tmp_path / "out", ALIGNED)
    with pytest.raises(UserError, match="is not empty"):
        prepare("folder", source, write(tmp_path / "mine", {"letter.txt": b"dear"}), ALIGNED)
    with pytest.raises(UserError, match="lies inside"):
        prepare("folder", source, source / "out", ALIGNED)
    with pytest.raises(UserError, match="--pairs is for lfw"):
        prepare("folder", source, tmp_path / "other", Options(pairs=tmp_path / "pairs.txt"))
    with pytest.raises(UserError, match="Did you mean 'insightface-bin'"):
        prepare("insightface-bim", source, tmp_path / "other")


def test_the_template_of_dlibs_points_is_that_of_the_eyes() -> None:
    eyes = np.stack([DLIB_TEMPLATE[2:4].mean(0), DLIB_TEMPLATE[:2].mean(0)])
    assert np.abs(eyes - TEMPLATE[:2]).max() < 2, "corners lie 2 pixels below the centres, no more"


@pytest.mark.assets
def test_faces_are_found_and_aligned(tmp_path: Path) -> None:
    photos = {f"p{i}/{turn}.png": encoded(photograph(i).rotate(turn, Image.Resampling.BICUBIC))
              for i in CLEAR for turn in (0, 12)}  # fmt: skip
    report = prepare("folder", write(tmp_path / "in", photos | {"p0/room.png": encoded(Image.new("RGB", (200, 200)))}),
                     tmp_path / "out")  # fmt: skip
    assert report["dropped"] == [{"what": "p0/room.png", "why": "no face found"}] and report["kept"] == 8
    for i in CLEAR:
        straight, turned = (
            np.asarray(Image.open(tmp_path / "out" / "images" / f"p{i}" / f"{turn}.jpg")).astype(float)
            for turn in (0, 12)
        )
        middle = np.s_[30:90, 30:82]
        apart = np.abs(straight - turned)[middle].mean()
        wrong = np.abs(straight - np.asarray(Image.fromarray(straight.astype(np.uint8)).rotate(12)))[middle].mean()
        assert apart < 0.75 * wrong, "the turn was not undone"
        face = main_face(np.asarray(Image.open(tmp_path / "out" / "images" / f"p{i}" / "12.jpg")))
        assert face is not None and np.abs(face.points - DLIB_TEMPLATE).mean() < 4


def test_what_is_there_when_it_fails_is_said(tmp_path: Path) -> None:
    """The last third of an archive cannot be read."""
    whole = packed(tmp_path / "in.zip", PEOPLE)
    content = bytearray(whole.read_bytes())
    at = content.index(PEOPLE["vgg/train/n000005/0001_01.png"])
    content[at : at + 64] = bytes(64)
    (tmp_path / "broken.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"16 of 24 images are in .*/out so far; the same command goes on"):
        prepare("folder", tmp_path / "broken.zip", tmp_path / "out", ALIGNED)


@pytest.mark.parametrize("name", ["con", "NUL", "com1.x", "a.", " .", "a\tb"])
def test_a_name_that_windows_cannot_take_is_reported(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in", {f"{name}/1.png": noise(1), "ok/1.png": noise(2), "console/1.png": noise(3)})
    report = prepare("folder", source, tmp_path / "out", ALIGNED)
    why = "a name that not every file system can take"
    assert report["kept"] == 2 and report["dropped"] == [{"what": f"{name}/1.png", "why": why}]
