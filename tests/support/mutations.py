"""Inputs that somebody broke, by accident or on purpose: bytes, texts, and trees of JSON and TOML."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

# What has broken parsers before: numbers that are none, marks, signs of other scripts, endless and nested things.
TOKENS = [
    b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b"\t", b" ", b'"', b"'", b"\\", b"{", b"}", b"[", b"]",
    b",", b":", b"=", b"#", b"..", b"../", b"/etc/passwd", b"-1", b"0", b"1", b"00", b"1e999", b"-1e999",
    b"1_0", b"0x10", b"NaN", b"nan", b"Infinity", b"inf", b"null", b"None", b"true", b"9" * 30, b"9" * 5000,
    b"1" + b"0" * 400, b"\xd9\xa3", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[2J", b"\xed\xa0\x80",
    b"[" * 2000, b"A" * 5000, b"%s%n", b"{{7*7}}", b"<script>",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"),
    "", "x", "0", "1", "nan", "../x", "/etc", "a\0b", "\ud800", "\x1b[2J", "\u202e", "A" * 5000, [], [[]],
    [None], [1, 2], {}, {"x": 1}, {"": {}},
]  # fmt: skip


def of_bytes(content: bytes, draws: Random) -> bytes:
    """One to three changes somewhere in the content."""
    changed = bytearray(content)
    for _ in range(draws.choice((1, 1, 1, 2, 3))):
        start = draws.randrange(len(changed) + 1)
        end = min(len(changed), start + draws.choice((1, 1, 2, 4, 16, 200)))
        other = draws.randrange(len(changed) + 1)
        match draws.randrange(9):
            case 0 if start < len(changed):
                changed[start] ^= 1 << draws.randrange(8)
            case 1 if start < len(changed):
                changed[start] = draws.choice((0, 1, 0x7F, 0x80, 0xFF, draws.randrange(256)))
            case 2:
                del changed[start:end]
            case 3:
                changed[other:other] = changed[start:end]
            case 4:
                changed[start:start] = draws.choice(TOKENS)
            case 5:
                changed[start:end] = draws.choice(TOKENS)
            case 6:
                del changed[start:]
            case 7:
                changed[start:end] = draws.randbytes(end - start)
            case _:
                changed += draws.choice((draws.choice(TOKENS), changed[start:end], bytes(draws.randrange(100))))
    return bytes(changed)


def of_lines(content: bytes, draws: Random) -> bytes:
    """Lines lost, doubled or in another order, or a word of one replaced."""
    lines = content.split(b"\n")
    at, other = draws.randrange(len(lines)), draws.randrange(len(lines))
    match draws.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            words = lines[at].split(draws.choice((b"\t", b" ", b",", b'"')))
            words[draws.randrange(len(words))] = draws.choice(TOKENS)
            lines[at] = draws.choice((b"\t", b" ", b",", b'"')).join(words)
    return b"\n".join(lines)


def of_tree(tree: Any, draws: Random) -> Any:
    """A tree of JSON in which one place holds something else, is missing, or has a companion."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return draws.choice(VALUES)
    holder, key = draws.choice(places)
    match draws.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draws.choice(("", "x", "key", "__class__", key.upper(), f"{key} "))] = holder.pop(key)
        case 1 | 2 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(draws.choice(places)[0]))
        case 2:
            holder[draws.choice(("x", "extra", "value", "n"))] = draws.choice(VALUES)
        case 3:
            other, name = draws.choice(places)
            holder[key] = copy.deepcopy(other[name])
        case _:
            holder[key] = draws.choice(VALUES)
    return tree


def of_json(content: bytes, draws: Random) -> bytes:
    """A text of JSON, or of one JSON a line, changed as a tree, as text, or with one key said twice."""
    how = draws.randrange(10)
    if how < 2:
        return of_bytes(content, draws)
    lines = content.decode().splitlines()
    if not _is_json(lines[0]):
        lines = [content.decode()]
    at = draws.randrange(len(lines))
    if how == 2:
        place = lines[at].find('": ')
        start = lines[at].rfind('"', 0, max(place, 0))
        twice = f"{lines[at][start : place + 1]}: {json.dumps(draws.choice(VALUES[:12]))}, "
        lines[at] = lines[at][:start] + twice + lines[at][start:] if place > 0 else lines[at]
    else:
        lines[at] = json.dumps(of_tree(json.loads(lines[at]), draws), ensure_ascii=draws.random() < 0.5)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def of_toml(content: bytes, draws: Random) -> bytes:
    """A text of TOML with another value, another line, or other bytes."""
    if draws.random() < 0.4:
        return draws.choice((of_bytes, of_lines))(content, draws)
    lines = content.split(b"\n")
    said = [i for i, line in enumerate(lines) if b" = " in line]
    at = draws.choice(said)
    key = lines[at].split(b" = ", 1)[0]
    literals = [
        b"-1", b"0", b"1", b"nan", b"inf", b"-inf", b"1e999", b"9" * 30, b"1_0", b"0x10", b"0.5", b"true",
        b'""', b"'x'", b'"1"', b"[]", b"[1]", b"[[]]", b"{}", b"1979-05-27", b'"../x"', b'"\\u0000"',
        b'"a\\u202eb"', b"'" + b"A" * 5000 + b"'", lines[draws.choice(said)].split(b" = ", 1)[1],
    ]  # fmt: skip
    lines[at] = key + b" = " + draws.choice(literals)
    return b"\n".join(lines)


Mutation = Callable[[bytes, Random], bytes]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in it, as what holds it and where."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
