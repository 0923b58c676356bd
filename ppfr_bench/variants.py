"""Labels of plug-ins whose parameters were changed for one run, and sweeps of one parameter over several values.

``pixelate`` with ``block=14`` becomes ``pixelate_block_14``, so that its records lie beside those of other values.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import canonical_json, digest

LONGEST = 64  # Characters of a label.
_WORD = re.compile(r"[a-z0-9_]{1,24}")
_TOML_WORDS = ("true", "false", "inf", "nan")
_MOST = 3  # At most so many changed parameters are looked for in a label.


def variant_label(base: str, changes: Mapping[str, Any]) -> str:
    """The label of ``base`` with some parameters changed: ``stochastic_local_gain_0p3``.

    A point becomes ``p``, a minus ``m``; what is no short word (a list, a sentence) and what is too long is cut and
    ends in eight digits of its digest.

    Args:
        base: the label that the suite gives it.
        changes: parameter to value, as JSON has them.
    """
    label = "_".join([base, *(f"{key}_{_short(changes[key])}" for key in sorted(changes))])
    label = re.sub(r"[^a-z0-9_]+", "_", label.lower())  # A parameter may be named in capitals.
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 9]}_{digest([base, dict(changes)])[:8]}"


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        text = repr(value).removesuffix(".0")
        return text.replace("-", "m").replace(".", "p").replace("+", "")
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    text = value if isinstance(value, str) else canonical_json(value)
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:16].strip("_")
    return "_".join(part for part in (word, digest(value)[:8]) if part)


def origin(label: str, name: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """What ``variant_label`` made a label of: the base and the changed parameters; None if it did not make it.

    Args:
        name: of the plug-in, which a base starts with.
        config: all its parameters, as in a record.
    """
    keys = [key for key in sorted(config) if f"_{key.lower()}_" in label]
    places = [found.start() for found in re.finditer("_", label)]
    for base in (label[:place] for place in places if label[:place].startswith(name)):
        for count in range(1, _MOST + 1):
            for chosen in combinations(keys, count):
                changes = {key: config[key] for key in chosen}
                if variant_label(base, changes) == label:
                    return base, changes
    return None


def described(changes: Mapping[str, Any]) -> str:
    """``block = 14, key = image``."""
    return ", ".join(f"{key} = {_plain(changes[key])}" for key in sorted(changes))


def again(kind: Literal["defense", "attack"], label: str, name: str, config: Mapping[str, Any]) -> str:
    """The options of ``ppfr-bench run`` that choose an entry by its label, or by what the label was made of.

    ``--defense pixelate --set defense.pixelate.block=8``.
    """
    found = origin(label, name, config)
    if found is None:
        return f"--{kind} {label}"
    base, changes = found
    words = [f"--{kind} {base}"]
    for key in sorted(changes):
        value = _plain(changes[key]) if _bare(changes[key]) else canonical_json(changes[key])
        words.append(f"--set {shlex.quote(f'{kind}.{base}.{key}={value}')}")
    return " ".join(words)


def _bare(value: Any) -> bool:
    """Whether ``--set`` takes a string for what it is without quotes."""
    return isinstance(value, str) and re.fullmatch(r"[a-z_]+", value) is not None and value not in _TOML_WORDS


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


@dataclass(frozen=True)
class Sweep:
    """One parameter of one entry of a suite over several values; ``text`` is how it was asked for."""

    kind: Literal["defense", "attack"]
    label: str
    key: str
    values: tuple[Any, ...]
    text: str


def read_sweep(text: str) -> Sweep:
    """``defense.pixelate.block=4,8,14``.

    Values are TOML (numbers, quoted strings, ``true``), or bare words.

    Raises:
        UserError: another form, no value, or an empty one.
    """
    path, equals, listed = text.partition("=")
    parts = path.split(".")
    if not equals or len(parts) != 3 or parts[0] not in ("defense", "attack") or not all(parts):
        raise UserError(
            f"--sweep {text}: expected defense.LABEL.KEY=VALUE,VALUE",
            "For example:  --sweep defense.pixelate.block=4,8,14",
        )
    values = tuple(_values(listed))
    if not values or any(value == "" for value in values):
        what = "no value" if not listed.strip() else "an empty value"
        raise UserError(f"--sweep {text}: {what}", f"For example:  --sweep {path}=4,8,14")
    kind: Literal["defense", "attack"] = "defense" if parts[0] == "defense" else "attack"
    return Sweep(kind, parts[1], parts[2], values, text)


def _values(listed: str) -> Iterator[Any]:
    try:
        yield from tomllib.loads(f"values = [{listed}]")["values"]
    except tomllib.TOMLDecodeError:
        for word in listed.split(","):
            try:
                yield tomllib.loads(f"value = {word}")["value"]
            except tomllib.TOMLDecodeError:
                yield word.strip()
