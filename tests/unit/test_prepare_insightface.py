"""InsightFace's files: pickles that may hold bytes and arrays only, and MXNet's recordio."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_photographs import noise, tree, write
from PIL import Image

from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.preparation import prepare
from ppfr_bench.errors import Unavailable, UserError


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


def nested(depth: int) -> Any:
    found: Any = [noise(0)]
    for _ in range(depth):
        found = [found, found]
    return found


def asks_again(times: int) -> bytes:
    """A pickle of a list of one text as bytes, made anew so many times."""
    text = b"x" * 10_000
    encode = (
        b"c_codecs\nencode\nq\x00X" + struct.pack("<I", len(text)) + text + b"q\x01X\x06\x00\x00\x00latin1\x86q\x02"
    )
    return b"\x80\x02(" + encode + b"l(" + b"h\x00h\x02R" * times + b"l\x86."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x02Nr" + (1 << 27).to_bytes(4, "little") + b".", "9 bytes asks for 134217728 places"),
        (b"Np134217728\n.", "asks for 134217728 places"),
        (pickle.dumps((nested(40), [True])), "expected an encoded image, got list"),
        (pickle.dumps(([noise(0)] * 20, nested(40))), "expected two images a pair"),
        (pickle.dumps((np.zeros((1 << 40, 0), np.uint8), [True] * 10)), "1099511627776 images in"),
        (asks_again(200), "asks for more bytes than it has"),
    ],
)
def test_a_small_bin_takes_little_memory(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "small.bin").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=says):
            prepare("insightface-bin", tmp_path / "small.bin", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


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
