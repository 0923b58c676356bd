"""Faults that broken inputs found, one of each kind: refused in words, or read as they are written."""

from __future__ import annotations

import io
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydantic import Field, ValidationError

from ppfr_bench.cards import Config
from ppfr_bench.datasets.lfw import read_pairs
from ppfr_bench.datasets.preparation.insightface import BinFormat
from ppfr_bench.errors import UserError
from ppfr_bench.images import UnreadableImage, decode, encode_png
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.text import parse_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "the key 'a' stands twice"),
        ("[NaN]", "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("[1e999]", "not JSON compliant"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[" * 100_000, "nests too deeply"),
        ("[" + "9" * 5000 + "]", "4300 digits"),
    ],
)
def test_json_has_one_meaning(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"x.json.*{said}"):
        parse_json(text, "x.json")


def test_json_that_only_looks_doubtful_is_read() -> None:
    assert parse_json('["\\ud83d\\ude00", 1e+100, "1e999"]', "x") == ["😀", 1e100, "1e999"]


class Settings(Config):
    whole: int = 1
    real: float = 1.0
    many: tuple[int, ...] = ()
    limited: int | None = Field(None, ge=0)
    switch: bool = False
    named: dict[str, float] = Field(default_factory=dict)


@pytest.mark.parametrize(
    "given",
    [
        {"whole": "1"}, {"whole": True}, {"whole": 1.0}, {"real": "1"}, {"real": True}, {"many": ["1"]},
        {"many": [True]},
        {"limited": "1"}, {"limited": False}, {"switch": 1}, {"switch": "yes"}, {"named": {"a": "1"}},
    ],
)  # fmt: skip
def test_a_number_is_a_number_and_a_switch_a_switch(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(given)


def test_a_whole_number_is_a_real_one_and_a_list_a_tuple() -> None:
    found = Settings.model_validate({"real": 2, "many": [1, 2], "limited": 3, "named": {"a": 1}})
    assert (found.real, found.many, found.limited, found.named) == (2.0, (1, 2), 3, {"a": 1.0})


@pytest.mark.parametrize("interval", [(0.6, 0.4), (float("nan"), 1.0)])
def test_an_interval_has_a_low_and_a_high_end(interval: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        Estimate(0.5, interval)
    with pytest.raises(ValidationError):
        Estimate(None, (0.4, 0.6), reason="not measured")


@pytest.mark.parametrize(
    "row",
    ["a/../../b\t1\t2", "..\t1\t2", "a\\b\t1\t2", "a\x1bb\t1\t2", "a\t٣\t2", "a\t" + "1" * 5000 + "\t2", "a\t1_0\t2"],
)
def test_a_person_of_a_pair_is_no_path_and_a_photo_a_number(row: str) -> None:
    with pytest.raises(UserError, match=r"pairs.txt, line 2: expected a (person's name|photo's number)"):
        read_pairs(f"1\t1\n{row}\na\t1\tb\t1\n", "pairs.txt")


@pytest.mark.parametrize("head", ["-1\t-1", "1_0\t3", "٣\t3", "3", ""])
def test_the_head_of_a_list_is_two_numbers(head: str) -> None:
    with pytest.raises(UserError, match="line 1: expected '10<tab>300'"):
        read_pairs(f"{head}\na\t1\t2\na\t1\tb\t1\n", "pairs.txt")


def test_a_png_whose_check_sums_are_wrong_is_no_image() -> None:
    """Pillow alone takes it, with other pixels: the sum of the stream comes after the last row."""
    whole = encode_png(np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3))
    start = whole.index(b"IDAT") + 4
    length = int.from_bytes(whole[start - 8 : start - 4], "big")
    pixels = bytearray(zlib.decompress(whole[start : start + length]))
    pixels[40] ^= 1
    changed = zlib.compress(bytes(pixels), 0)
    content = whole[: start - 8] + len(changed).to_bytes(4, "big") + b"IDAT" + changed + whole[start + length :]
    with pytest.raises(UnreadableImage):
        decode(content)


class Much:
    """A pickle of a few bytes that asks for as many as it likes."""

    def __reduce__(self) -> tuple[type[bytes], tuple[int]]:
        return bytes, (1 << 40,)


def test_a_pickle_gets_no_bytes_but_those_it_holds(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.dump(([Much()] * 20, [True] * 10), buffer, protocol=2)
    (tmp_path / "x.bin").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="a pickle asks for bytes of int"):
        BinFormat(tmp_path / "x.bin")


def test_a_pickle_cannot_tell_numpy_that_bytes_are_pointers(tmp_path: Path) -> None:
    """The last number of a type's state is a set of flags; numpy itself takes them as they come."""
    image = np.frombuffer(encode_png(np.zeros((8, 8, 3), np.uint8)), np.uint8)
    whole = pickle.dumps(([image] * 20, [True] * 10), protocol=2)
    state = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    assert whole.count(state) == 1, "this is where the flags of uint8 stand"
    (tmp_path / "x.bin").write_bytes(whole.replace(state, state[:-1] + b"\x3f"))
    assert BinFormat(tmp_path / "x.bin")._images == [image.tobytes()] * 20
