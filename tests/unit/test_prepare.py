"""Data sets made ready: nothing in a source is trusted, nothing is lost unsaid, and a kill costs no byte."""

from __future__ import annotations

import io
import json
import os
import pickle
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


def test_a_link_out_of_a_folder_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "in", PEOPLE)
    (root / "vgg" / "train" / "n000000" / "secret.png").symlink_to(
        write(tmp_path / "else", {"s.png": noise(1)}) / "s.png"
    )
    with pytest.raises(UserError, match="link that leads out"):
        prepare("folder", root, tmp_path / "out", ALIGNED)


def test_what_is_dropped_is_named_with_its_reason(tmp_path: Path) -> None:
    files = {
        "a/1.png": noise(1), "a/1.jpg": noise(2), "a/small.png": encoded(Image.new("RGB", (64, 64))),
        "a/grey.png": encoded(Image.new("L", (112, 112))), "a/text.png": b"no image", "top.png": noise(3),
        "a/cut.png": noise(4)[:3000], "b/con:.png": noise(5), ".hidden/1.png": noise(6),
    }  # fmt: skip
    report = prepare("folder", write(tmp_path / "in", files), tmp_path / "out", ALIGNED)
    reasons = {row["what"]: row["why"] for row in report["dropped"]}
    assert report["kept"] == 1 and reasons == {
        "a/1.png": "another image has the same person and name",
        "a/small.png": "not an RGB image of 112x112 pixels",
        "a/grey.png": "not an RGB image of 112x112 pixels",
        "a/text.png": "not an image that can be read",
        "a/cut.png": "not an image that can be read",
        "top.png": "in no person's folder",
        "b/con:.png": "a name that not every file system can take",
    }
    assert json.loads((tmp_path / "out" / "report.json").read_text())["dropped"] == report["dropped"]


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
    assert report["kept"] == report["images"] == 30 and report["reasons"] == {}
    assert report["placed_without_a_face"] == ["lfw/Bob 3/Bob 3_0001.jpg"]
    assert report["pairs"] == {"pairs.csv": {"kept": 20, "lost": 0}}
    assert len(load_dataset("lfw", {"root": str(tmp_path / "out")}).canary[1]) == 20
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "report.json").unlink()
    (tmp_path / "out" / "images" / "Bob 3" / "Bob 3_0001.jpg").unlink()
    prepare("lfw", archive, tmp_path / "out", Options(pairs=pairs))
    assert tree(tmp_path / "out") == before


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
