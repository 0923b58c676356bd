"""Text that people hand over: UTF-8 is read, any other encoding is named; TOML and JSON say what to write instead."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import nightly
from ppfr_bench.recognizers._card import read_card
from ppfr_bench.suites import load_suite
from ppfr_bench.text import decode_text, parse_json, parse_toml, printable, read_text, toml_value

TEXT = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]))
ASCII = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1)
WESTERN = st.text(st.sampled_from("abc =\"'\n\té\xe0\xfc\xdf\xf1"), min_size=1)


def unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Encodings


@given(TEXT, st.sampled_from(["utf-8", "utf-8-sig"]))
def test_utf8_is_read_with_a_mark_and_without(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding), "x.toml") == unix(text)


@given(TEXT, st.sampled_from(["utf-16", "utf-32"]))
def test_a_mark_names_the_encoding(text: str, encoding: str) -> None:
    with pytest.raises(UserError, match=f"x.toml is text in {encoding.upper()}, expected UTF-8") as caught:
        decode_text(text.encode(encoding), "x.toml")
    assert f"iconv -f {encoding.upper()}" in caught.value.hint


@given(ASCII, st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]))
def test_wide_text_is_known_without_a_mark(text: str, encoding: str) -> None:
    with pytest.raises(UserError, match=f"text in {encoding[:6].upper()} without a byte order mark"):
        decode_text(text.encode(encoding), "x.toml")


@given(WESTERN)
def test_latin_1_is_named_with_its_line(text: str) -> None:
    content = text.encode("latin-1")
    try:
        content.decode()
    except UnicodeDecodeError:
        with pytest.raises(UserError, match=r"x\.toml, line \d+: byte 0x..*Latin-1 \(ISO-8859-1 or Windows-1252\)"):
            decode_text(content, "x.toml")
    else:
        assert decode_text(content, "x.toml") == text


@pytest.mark.parametrize(
    ("text", "encoding", "says"),
    [
        ("title = “Café”\n", "cp1252", "Windows-1252"), ("title = 'Привет'\n", "koi8-r", "another region"),
        ("title = '人脸识别'\n", "gb18030", "another region"), ("title = '顔認識'\n", "shift-jis", "another region"),
        ("title = '人脸识别'", "utf-16-le", "UTF-16"), ("Привет, мир", "utf-16-be", "UTF-16"),
    ],
)  # fmt: skip
def test_other_encodings_are_refused(text: str, encoding: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        decode_text(text.encode(encoding), "x.toml")


def test_a_file_that_was_cut_is_not_taken_for_another_encoding() -> None:
    with pytest.raises(UserError, match="ends within a character"):
        decode_text("Café, Zürich €".encode()[:-1], "x.toml")


@given(st.binary())
def test_bytes_of_any_kind_are_text_or_a_message(content: bytes) -> None:
    try:
        assert "\0" not in decode_text(content, "x")
    except UserError as error:
        assert error.message.startswith("x") and error.hint


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_a_name_can_always_be_printed(name: bytes) -> None:
    printable(os.fsdecode(name)).encode()
    assert printable("caf\udce9") == "caf\\xe9" and printable("\ud800") == "\\ud800"


# Files


def test_what_is_no_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match="is a pipe or a device, expected a suite file"):
        read_text(tmp_path / "pipe.toml", what="suite file")
    with pytest.raises(UserError, match="is a folder, expected a suite file"):
        read_text(tmp_path, what="suite file")
    with pytest.raises(UserError, match=r"no suite file at .*none\.toml: No such file"):
        read_text(tmp_path / "none.toml", what="suite file")
    with pytest.raises(UserError, match=r"cannot read .*null"):
        read_text(tmp_path / "a\0.toml")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"cannot read .*loop"):
        read_text(tmp_path / "loop")
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert read_text(tmp_path / "large", limit=11) == "x" * 11
    with pytest.raises(UserError, match="has more than"):
        read_text(tmp_path / "large", limit=10)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"cannot read .*large: Permission denied"):
        read_text(tmp_path / "large")


# TOML and JSON


@pytest.mark.parametrize(
    ("line", "better"),
    [
        (r'root = "C:\Users\me"', r"root = 'C:\Users\me'"),
        (r'root = "C:\data\"', r"root = 'C:\data\'"),
        (r'root = "\\server\share"  # ours', r"root = '\\server\share'  # ours"),
        (r'  "C:\cards\a.toml",', r"'C:\cards\a.toml',"),
        (r'''root = "C:\Users\O'Neil"''', 'root = "C:/Users/O\'Neil"'),
        (r'params = { root = "D:\xyz", pairs = "p.txt" }', "params = { root = 'D:\\xyz', pairs = \"p.txt\" }"),
    ],
)
def test_a_path_with_backslashes_is_answered_with_the_corrected_line(line: str, better: str) -> None:
    text = f"title = 'x'\nrecognizers = [\n{line}\n]\n" if line.endswith(",") else f"title = 'x'\n\n{line}\n"
    with pytest.raises(UserError, match=r"x\.toml is not TOML: .*\(at line 3, column \d+\)") as caught:
        parse_toml(text, "x.toml")
    assert line.strip() in caught.value.message
    assert "backslash" in caught.value.hint and caught.value.hint.splitlines()[-1] == f"  {better}"


@given(st.text(st.sampled_from("abefnrtuxUX09 \\.:~-_"), min_size=1))
def test_the_corrected_line_is_what_was_meant(path: str) -> None:
    """Whatever the path: TOML that reads it, or a line that does; what reads as something else is a matter of luck."""
    try:
        parse_toml(f'root = "{path}"', "x.toml")
    except UserError as error:
        better = error.hint.splitlines()[-1].strip()
        assert tomllib.loads(better)["root"] == path


@pytest.mark.parametrize(
    "text",
    [
        "a = [" * 3000,
        "[" * 3000,
        "a = " + "9" * 5000,
        "a = “x”",
        "a = 1\na = 2",
        "a = 'x",
        "\x07",
        'a = "x\ty" b',
        "= 1",
    ],
)
def test_what_is_no_toml_is_said_without_a_word_on_backslashes(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.toml is not TOML") as caught:
        parse_toml(text, "x.toml", "See the manual.")
    assert caught.value.hint == "See the manual."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("true", True), ("[1, 2]", [1, 2]), ("'a'", "a"), ("lfw", "lfw"), ("", ""), ("~/faces", "~/faces"),
        (r"C:\Users\me", r"C:\Users\me"), (r"'C:\Users\me'", r"C:\Users\me"), ("/data/caf\udce9", "/data/caf\udce9"),
    ],
)  # fmt: skip
def test_a_setting_is_toml_or_a_word(text: str, value: object) -> None:
    assert toml_value(text, f"x={text}") == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (r'"C:\Users\me"', r"backslash.*\n.*'C:\\Users\\me'"), ('"a', "--set x=\"a"), ("[1, 2", r"--set x=\[1, 2"),
        ("[" * 3000, "--set x="), ("9" * 5000, "--set x=999"),
    ],
)  # fmt: skip
def test_a_setting_that_is_half_toml_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        toml_value(text, f"x={text}")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, "nonsense"])
def test_what_is_no_json_is_said(text: str) -> None:
    with pytest.raises(UserError, match=r"x\.json is not JSON"):
        parse_json(text, "x.json")


# Where such text comes in

SUITE = "title = 'Caf\xe9'\nrecognizers = ['dlib_resnet']\n[dataset]\nname = 'synthetic'\n" \
    "[[defense]]\nname = 'no_defense'\n[[attack]]\nname = 'linkage'\n"  # fmt: skip
WRONG = [("latin-1", "Latin-1"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-32", "UTF-32")]


def test_a_suite_may_have_a_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(SUITE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_suite(str(path)).title == "Café"


@pytest.mark.parametrize(("encoding", "says"), WRONG)
def test_suites_cards_and_plugins_in_another_encoding(tmp_path: Path, encoding: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(SUITE.encode(encoding))
    for read in (lambda: load_suite(str(path)), lambda: read_card(path)):
        with pytest.raises(UserError, match=says):
            read()
    plugin = tmp_path / f"in_{encoding.replace('-', '_')}.py"
    plugin.write_bytes("# Caf\xe9\nDEFENSE = None\n".encode(encoding))
    with pytest.raises(UserError, match=says):
        registry.add_plugin(plugin)


def test_a_suite_with_windows_paths(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace("'synthetic'", "'folder'\n[dataset.params]\nroot = \"C:\\Users\\me\""), "utf-8")
    with pytest.raises(UserError, match=r"line 6.*\n.*\n  root = 'C:\\Users\\me'"):
        load_suite(str(path))


PLUGIN = """# {comment}
import torch
from ppfr_bench.api import Config, Defense, DefenseCard

class Mine(Defense):
    version = 1
    card = DefenseCard(title="{comment}", family="x", reference="x", licence="x", randomness="deterministic")

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images

DEFENSE = Mine
"""


@pytest.mark.parametrize(
    ("name", "comment", "encoding"),
    [("with_mark", "Caf\xe9", "utf-8-sig"), ("with_coding", "-*- coding: latin-1 -*- Caf\xe9", "latin-1")],
)
def test_a_plugin_may_have_a_mark_or_name_its_encoding(
    tmp_path: Path, name: str, comment: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_added", {})
    path = tmp_path / f"{name}.py"
    path.write_bytes(PLUGIN.format(comment=comment).encode(encoding))
    assert registry.add_plugin(path) == [("defense", name)]
    assert registry.load("defense", name).card.title == comment


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"# coding: utf-8\n# caf\xe9\n", "Latin-1"), (b"# coding: klingon\n", "klingon"), (b"x = 1\0\n", "null"),
        (b"x = (\n\ny = 1\n", r"SyntaxError: .*line 1:  x = \("), (b"\n\nx = = 1\n", "line 3:  x = = 1"),
        (b"import sys\nsys.exit(0)\n", "it ends the program, with exit code 0"), (b"", "must end in DEFENSE"),
        (b"x = 1 / 0\n", "ZeroDivisionError"), (b"\x93NUMPY\x01\0v\0", "binary"),
    ],
)  # fmt: skip
def test_a_plugin_that_does_not_load_says_why(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "broken_file.py"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        registry.add_plugin(path)


def test_a_plugin_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "loop.py").symlink_to("loop.py")
    for name in ("pipe.py", "folder.py", "loop.py", "none.py", "caf\udce9.py", "x\0.py"):
        with pytest.raises(UserError) as caught:
            registry.add_plugin(tmp_path / name)
        caught.value.message.encode()


def test_the_history_and_the_benchmarks_of_a_night(tmp_path: Path) -> None:
    path = tmp_path / "nights.jsonl"
    moved = {"kind": "failed", "what": "x", "metric": "", "before": None, "now": None, "reason": "a\u2028b\x85c Café"}
    night = {"night": "2026-11-23", "suite": "quick", "commit": None, "changed": 0, "sampled": 0, "rows": {},
             "findings": [moved]}  # fmt: skip
    path.write_bytes(b"\xef\xbb\xbf" + (json.dumps(night, ensure_ascii=False) + "\r\n").encode())
    assert nightly.read_history(path) == [night]
    path.write_bytes(b"")
    assert nightly.read_history(path) == []
    for content, says in [
        (json.dumps(night, ensure_ascii=False).replace("\u2028", "").encode("latin-1"), "Latin-1"),
        (json.dumps(night).encode("utf-16"), "UTF-16"), (b"[]\n", "line 1 is not a line of the history"),
        (b"{}\n", "line 1 is not a line of the history"), (b"\n\n", "line 1 is not JSON"),
    ]:  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(UserError, match=says):
            nightly.read_history(path)
    written = tmp_path / "b.json"
    for content, says in [
        ('{"x": "é"}'.encode("latin-1"), "Latin-1"), (b"[]", "holds no benchmarks"), (b"{", "is not JSON"),
        (b'{"benchmarks": [{"name": "test_a_bare_loop", "stats": {"min": 0}}]}', "lacks test_a_bare_loop"),
    ]:  # fmt: skip
        written.write_bytes(content)
        with pytest.raises(UserError, match=says):
            nightly.read_ratios(written)
