"""Text from outside, read strictly: JSON that means one thing, and nothing that a reader would not see."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any, NoReturn

_DEEPEST = 32  # Records nest seven deep.
_LONGEST = 64  # Digits of a number.
_NAMES = {"\0": "NULL", "\x1b": "ESCAPE"}


def strict_json(content: bytes) -> Any:
    """JSON in UTF-8 in which each key stands once, every number is finite and no text hides characters.

    Raises:
        ValueError: what is wrong with it, in words.
    """
    if content.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it begins with a byte order mark")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    try:
        found = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
        )
        _check_text(found)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    return found


def _hidden(text: str) -> str:
    """The first character of a text that its reader would not see, as ``U+202E RIGHT-TO-LEFT OVERRIDE``; or nothing.

    Line feeds and tabs are seen. Control characters, escapes of terminals, lone surrogates, marks that turn the
    direction of text, and characters that have no width are not.
    """
    found = next((one for one in text if _is_hidden(one)), "")
    return f"U+{ord(found):04X} {unicodedata.name(found, _NAMES.get(found, 'CONTROL CHARACTER'))}" if found else ""


def _is_hidden(one: str) -> bool:
    if one in "\n\t" or " " <= one <= "~":
        return False
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:60]!r} stands twice in one object")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    if len(text) > _LONGEST or not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is not a finite number of at most {_LONGEST} digits")
    return number


def _integer(text: str) -> int:
    if len(text) > _LONGEST:
        raise ValueError(f"a number of {len(text):,} digits, at most {_LONGEST} are taken")
    return int(text)


def _check_text(value: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} deep")
    if isinstance(value, str):
        if hidden := _hidden(value):
            raise ValueError(f"a text of it holds {hidden}")
    elif isinstance(value, dict):
        for name, one in value.items():
            _check_text(name, depth + 1)
            _check_text(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _check_text(one, depth + 1)
