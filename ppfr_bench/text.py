"""Text that people hand over: UTF-8, with or without a byte order mark; any other encoding is refused by its name.

Also what is written in such text: TOML and JSON, whose errors name the line and what to write instead.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppfr_bench.errors import UserError

__all__ = [
    "check_encoding", "decode_text", "neutral", "parse_json", "parse_toml", "printable", "read_bytes", "read_text",
    "toml_value", "unseen_characters",
]  # fmt: skip

LIMIT = 1 << 28  # bytes of a file that is read whole
SMALL = 1 << 20  # bytes of one that is written by hand
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # They change the order in which text is shown.
_COMMANDS = re.compile(f"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")  # All but tab and line end.
# What shows nothing, or has no width: also letters that Python takes for a name, and characters that spell in secret.
_UNSEEN = re.compile(
    f"[\0-\x08\x0b\x0e-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}\xad\u034f\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_DOUBTFUL = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{300}")  # Half a character, or a number beyond all numbers.
_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # This is the pattern of the language reference.
_MARKS = (  # the longer ones first: UTF-32's little-endian mark starts with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path: Path, hint: str = "", what: str = "", limit: int = LIMIT) -> str:
    """The text of a file, with line ends as ``\\n`` and without a byte order mark.

    Args:
        hint: what to type or to look at if the file cannot be read.
        what: the file should be, such as ``suite file``.
        limit: of its bytes.

    Raises:
        UserError: no such file, a folder, a pipe or a device, more bytes than ``limit``, or text that is not UTF-8; the
            encoding that it seems to have is named.
    """
    return decode_text(read_bytes(path, hint, what, limit), printable(path))


def read_bytes(path: Path, hint: str = "", what: str = "", limit: int = LIMIT) -> bytes:
    """The content of a regular file: a pipe or a device, which may never end, is not opened.

    Raises:
        UserError: as ``read_text``, whatever its encoding.
    """
    shown, expected = printable(path), f", expected a {what or 'file'}"
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{shown} is a folder{expected}", hint)
        if not stat.S_ISREG(mode):
            raise UserError(f"{shown} is a pipe or a device{expected}", hint or "Write it to a file first.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError as error:
        missing = f"no {what} at {shown}" if what else f"cannot read {shown}"
        raise UserError(f"{missing}: {error.strerror}", hint) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"cannot read {shown}: {getattr(error, 'strerror', None) or error}", hint) from error
    if len(content) > limit:
        raise UserError(f"{shown} has more than {limit >> 20} MiB{expected}", hint or "Is it the right file?")
    return content


def decode_text(content: bytes, name: str) -> str:
    """Bytes -> text, as ``read_text``.

    Args:
        name: of the file, for the message.

    Raises:
        UserError: it is not UTF-8.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise UserError(f"{name} is text in {encoding}, expected UTF-8", _save_as(encoding))
    if b"\0" in content:
        raise _with_nulls(content, name)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(content, name, error) from error
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def check_encoding(path: Path) -> None:
    """That a Python file is UTF-8 or names its encoding: Python's own words name neither it nor what to do.

    Raises:
        UserError: neither UTF-8 nor, by a comment in one of the first two lines, another encoding.
    """
    content = read_bytes(path, "Check its permissions.", "Python file", SMALL << 4)
    named = [found[1].lower() for line in content.split(b"\n", 2)[:2] if (found := _CODING.match(line))]
    if not named or named[0] in (b"utf-8", b"utf8", b"utf_8"):
        decode_text(content, printable(path))


def parse_toml(text: str, name: str, hint: str = "") -> dict[str, Any]:
    """TOML.

    Args:
        name: of the file, for the message.
        hint: where its keys are explained.

    Raises:
        UserError: it is not TOML: the line is shown, and what to write for a path with backslashes.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise UserError(f"{name} is not TOML that can be read: it nests too deeply", hint) from error
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        found = re.search(r"at line (\d+)", str(error))
        lines = text.rstrip().split("\n")
        line = lines[min(int(found[1]), len(lines)) - 1 if found else -1].strip()
        said = f"{name} is not TOML: {_first_sentence(error)}"
        if better := _without_escapes(line):
            raise UserError(
                f"{said}:  {line[:200]}",
                "A backslash between double quotes begins an escape. Write single quotes, or forward slashes:\n"
                f"  {better}",
            ) from error
        raise UserError(f"{said}:  {line[:200]}" if line else said, hint) from error


def toml_value(text: str, setting: str) -> Any:
    """The value of ``--set name=value``: as TOML has it, or the text itself where it is none, such as a path.

    Args:
        setting: as it was typed, for the message.

    Raises:
        UserError: it begins with a quote or a bracket and is not TOML.
    """
    try:
        return tomllib.loads(f"value = {text}\n")["value"]
    except (ValueError, RecursionError) as error:
        begins = text.strip()[:1]
        if begins == '"' and (better := _without_escapes(f"value = {text}")):
            raise UserError(
                f"--set {printable(setting)}: a backslash between double quotes begins an escape",
                f"Write it without quotes, or with single ones:  {better.partition(' = ')[2]}",
            ) from error
        if isinstance(error, tomllib.TOMLDecodeError) and begins not in ('"', "'", "[", "{"):
            return text
        said = f"--set {printable(setting)[:200]}: {_first_sentence(error)}"
        raise UserError(said, "Quote a text as TOML does:  --set name='\"text\"'") from error


def parse_json(text: str, name: str, hint: str = "", parse_float: Callable[[str], float] | None = None) -> Any:
    """JSON that has one meaning: no key stands twice, every number is finite, every text can be written.

    Raises:
        UserError: it is not.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=parse_float)
        if _DOUBTFUL.search(text):
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        return found
    except RecursionError as error:
        raise UserError(f"{name} is not JSON that can be read: it nests too deeply", hint) from error
    except ValueError as error:
        raise UserError(f"{name} is not JSON: {_first_sentence(error)}", hint) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice[:80]!r} stands twice in one place")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no finite number")


def printable(name: str | Path) -> str:
    """A file's name as it can be printed and stored: bytes that are not UTF-8 are written as ``\\xe9``."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return str(name).encode("utf-8", "backslashreplace").decode()


def neutral(text: str) -> str:
    """The text with everything written out that a terminal would obey: ``\\x1b`` for an escape, ``\\u202e`` for a turn.

    Tabs and line ends stay. A carriage return does not, as what follows it would be written over the line.
    """
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def unseen_characters(source: str) -> list[str]:
    """What a reader of a source text does not see: bidirectional controls, null and other control characters, blanks.

    Returns:
        one sentence for each place, such as ``line 3, column 7: U+202E RIGHT-TO-LEFT OVERRIDE``; a byte order mark at
        the very start is none.
    """
    text = source.removeprefix("\ufeff")
    return [
        f"line {number}, column {found.start() + 1}: U+{ord(found[0]):04X} {_name_of(found[0])}"
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)
        for found in _UNSEEN.finditer(line)
    ]


def _name_of(character: str) -> str:
    return unicodedata.name(character, "NULL" if character == "\0" else "control character")


def _with_nulls(content: bytes, name: str) -> UserError:
    """For text in UTF-16 or UTF-32 without a mark: every character of ASCII holds null bytes there."""
    for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and "\0" not in text and sum(one < "\x80" for one in text) * 2 >= len(text):
            said = f"{name} is text in {encoding[:-2]} without a byte order mark, expected UTF-8"
            return UserError(said, _save_as(encoding))
    return UserError(
        f"{name} is no text in UTF-8: it holds null characters, as UTF-16 and binary files do", _save_as("UTF-16")
    )


def _not_utf8(content: bytes, name: str, error: UnicodeDecodeError) -> UserError:
    line = content[: error.start].count(b"\n") + 1
    where = f"{name}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8"
    if re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", content):
        return UserError(f"{where}, it looks like UTF-16 or a binary file", _save_as("UTF-16"))
    if error.reason == "unexpected end of data" and not content[: error.start].isascii():
        return UserError(f"{where}: the file ends within a character", "Copy it again: its end is missing.")
    if re.search(rb"[\x80-\xff]{3}", content):  # letters with accents stand alone, those of other scripts do not
        return UserError(
            f"{where}, it looks like Latin-1 (ISO-8859-1 or Windows-1252), or like an encoding of another region "
            "(GB18030, Shift-JIS, EUC-KR, Windows-1251)",
            _save_as("ENCODING"),
        )
    encoding = "WINDOWS-1252" if re.search(rb"[\x80-\x9f]", content) else "LATIN1"
    return UserError(f"{where}, it looks like Latin-1 (ISO-8859-1 or Windows-1252)", _save_as(encoding))


def _without_escapes(line: str) -> str:
    """The line as it was meant by whoever wrote backslashes between double quotes; empty if there are none."""

    def quoted(found: re.Match[str]) -> str:
        inner = found[1]
        return f"'{inner}'" if "'" not in inner else '"' + inner.replace("\\", "/") + '"'

    better = re.sub(r'"([^"]*\\[^"]*)"', quoted, line)
    return better if _is_toml(better) and not _is_toml(line) else ""


def _is_toml(line: str) -> bool:
    """Whether a line can stand alone, or in an array."""
    for whole in (line, f"value = [{line}]"):
        try:
            tomllib.loads(whole)
            return True
        except (ValueError, RecursionError):
            continue
    return False


def _first_sentence(error: Exception) -> str:
    return str(error).partition(": value has")[0]


def _save_as(encoding: str) -> str:
    return f"Save it as UTF-8 in an editor, or type:  iconv -f {encoding} -t UTF-8 FILE >NEW"
