"""Data sets made ready: nothing in a source is trusted, nothing is lost unsaid, and a kill costs no byte."""

from __future__ import annotations

import io
import json
import os
import pickle
import shlex
import struct
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from ppfr_bench import prepare as module
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.alignment import TEMPLATE
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, main_face
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.prepare import Options, prepare
from ppfr_bench.runner.plan import open_dataset
from ppfr_bench.suites import load_suite
from ppfr_bench.testing import example_faces

FACES = example_faces().load(range(16))
ALIGNED = Options(aligned=True)
CLEAR = (0, 2, 4, 12)  # examples in which dlib finds the face on the canvas below, whatever its version


def photograph(index: int, side: int = 150, at: tuple[int, int] = (60, 40)) -> Image.Image:
    """A face of the examples in a plain room, 280x260, its crop ``side`` pixels wide."""
    room = Image.new("RGB", (280, 260), (90, 100, 110))
    room.paste(Image.fromarray(FACES[index].transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC), at)
    return room


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def noise(seed: int) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)))


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return path


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


PEOPLE = {f"vgg/train/n{person:06d}/{photo:04d}_01.png": noise(10 * person + photo)
          for person in range(8) for photo in range(3)}  # fmt: skip


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
        ("../out/a/1.png", (), "leads out of it"),
        ("/etc/a/1.png", (), "leads out of it"),
        ("x/../../a/1.png", (), "leads out of it"),
        ("a\\..\\1.png", (), "leads out of it"),
        ("C:/a/1.png", (), "leads out of it"),
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
    with pytest.raises(UserError, match="leads out of it"):
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


def bin_of(path: Path, images: Any, same: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps((images, same), protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["bytes", "arrays"])
def test_a_bin_in_any_spelling(kind: str, protocol: int, tmp_path: Path) -> None:
    images = [
        noise(i) for pair in range(20) for i in ((2 * pair, 2 * pair + 1) if pair % 2 else (2 * pair, 2 * pair + 2))
    ]
    given = [np.frombuffer(image, np.uint8) for image in images] if kind == "arrays" else images
    same = (
        np.array([pair % 2 == 1 for pair in range(20)]) if kind == "arrays" else [pair % 2 == 1 for pair in range(20)]
    )
    report = prepare("insightface-bin", bin_of(tmp_path / "x.bin", given, same, protocol), tmp_path / "out")
    assert report["kept"] == len(set(images)) and report["pairs"] == {"pairs.csv": {"kept": 20, "lost": 0}}
    config = {"root": str(tmp_path / "out" / "images"), "pairs": "pairs.csv", "attacker_folds": 5}
    faces, pairs = load_dataset("folder", config).canary
    assert pairs.same.tolist() == [pair % 2 == 1 for pair in range(20)] and pairs.fold.tolist() == sorted(
        [*range(10)] * 2
    )
    for k, side in enumerate((pairs.left, pairs.right)):
        for image, i in zip(faces.load(side), range(20), strict=True):
            assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(images[2 * i + k]))).transpose(2, 0, 1))


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/ppfr_bench_was_here",)


class Encodes:
    def __reduce__(self) -> Any:
        import codecs

        return codecs.encode, ("text", "rot13")


@pytest.mark.parametrize(
    ("images", "same", "says"),
    [
        ([Runs()] * 20, [True] * 10, r"a pickle asks for (posix|nt)\.system; only bytes and arrays"),
        ([Encodes()] * 20, [True] * 10, "asks to encode as 'rot13'"),
        ([np.array([Runs()])] * 20, [True] * 10, "a pickle asks for"),
        ([noise(0)] * 19, [True] * 10, "expected two images a pair, got 19"),
        ([3] * 20, [True] * 10, "expected an encoded image, got int"),
        ([noise(0)] * 20, ["yes"] * 10, "expected two images a pair"),
        ({}, [True] * 10, r"expected \(images, issame\)"),
    ],
)
def test_a_bin_is_not_trusted(images: Any, same: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        prepare("insightface-bin", bin_of(tmp_path / "bad.bin", images, same), tmp_path / "out")
    assert not Path("/tmp/ppfr_bench_was_here").exists() and not (tmp_path / "out").exists()


def test_a_bin_that_is_none_or_contradicts_itself(tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_bytes(b"no pickle")
    with pytest.raises(UserError, match=r"is no \.bin of InsightFace"):
        prepare("insightface-bin", tmp_path / "text.bin", tmp_path / "out")
    images = [noise(i) for i in range(24)]
    images[2:4] = images[0:2]  # pair 1 says that the people of pair 0 are two
    report = prepare("insightface-bin", bin_of(tmp_path / "x.bin", images, [True, False] * 6), tmp_path / "out")
    assert report["dropped"] == [{"what": "pair 1", "why": "two people, whom other pairs make one"}]
    assert report["pairs"] == {"pairs.csv": {"kept": 11, "lost": 0}}


def test_two_copies_of_one_photograph_are_a_pair_where_the_protocol_says_so(tmp_path: Path) -> None:
    images = [noise(i) for i in range(24)]
    images[1], images[7] = images[0], images[6]  # pair 0 is genuine, pair 3 says that one photo is two people
    report = prepare("insightface-bin", bin_of(tmp_path / "x.bin", images, [True, False] * 6), tmp_path / "out")
    assert report["dropped"] == [{"what": "pair 3", "why": "a photo paired with itself"}]
    assert report["pairs"] == {"pairs.csv": {"kept": 11, "lost": 0}} and report["kept"] == 23
    config = {"root": str(tmp_path / "out" / "images"), "pairs": "pairs.csv", "attacker_folds": 5}
    faces, pairs = load_dataset("folder", config).canary
    left, right = (faces.load(side[:1]) for side in (pairs.left, pairs.right))
    assert pairs.same[0] and pairs.left[0] != pairs.right[0] and np.array_equal(left, right)


def record(flag: int, label: list[float], key: int, data: bytes) -> bytes:
    head = struct.pack("<IfQQ", flag, 0 if flag else label[0], key, 0)
    body = head + (np.array(label, "<f4").tobytes() if flag else b"") + data
    return struct.pack("<II", 0xCED7230A, len(body)) + body + b"\0" * (-len(body) % 4)


def test_a_training_set_in_recordio(tmp_path: Path) -> None:
    """The layout of MXNet's recordio, with InsightFace's first record and those of the identities."""
    images = [noise(i) for i in range(6)]
    records = [record(2, [7, 10], 0, b"")]
    records += [record(*((0, [i // 2]) if i % 2 else (2, [i // 2, 1])), i + 1, image) for i, image in enumerate(images)]
    records += [record(2, [2 * i + 1, 2 * i + 3], 7 + i, b"") for i in range(3)]
    starts = np.cumsum([0, *map(len, records)])
    index = "".join(f"{i}\t{start}\n" for i, start in enumerate(starts[:-1]))
    source = write(tmp_path / "in", {"train.rec": b"".join(records), "train.idx": index.encode()})
    if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
        with pytest.raises(Unavailable, match="DALI"):
            prepare("insightface-rec", source / "train.rec", tmp_path / "out")
        pytest.skip("no nvidia-dali: pip install 'ppfr-bench[rec]'")
    report = prepare("insightface-rec", source, tmp_path / "out")
    assert (report["kept"], report["people"]) == (6, 3)
    got = {name: content for name, content in tree(tmp_path / "out" / "images").items()}
    assert got == {f"{i // 2:07d}/{i + 1:08d}.png": image for i, image in enumerate(images)}
