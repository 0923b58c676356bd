"""Dials: one defense under several values of one parameter, its others alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.variants import described

_DIGEST = re.compile(r"(once-)?[0-9a-f]{32,64}")  # The digest of images made elsewhere, or of a callable's code.


@dataclass(frozen=True)
class Dial:
    """One plug-in at several values of one parameter, its others alike; ``rows`` in the order of the values.

    ``others``: the parameters in which this dial differs from another of the same plug-in and parameter.
    """

    name: str
    key: str
    rows: tuple[Row, ...]
    others: str = ""

    @property
    def title(self) -> str:
        """``pixelate: block``."""
        return f"{self.name}: {self.key}" + (f" ({self.others})" if self.others else "")

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that there is something between two of them."""
        return all(_is_number(row.config[self.key]) for row in self.rows)

    def value(self, row: Row) -> str:
        """``0.35``, ``8``, ``image``."""
        return shown_value(row.config[self.key])


def dials_of(rows: Iterable[Row]) -> list[Dial]:
    """Each parameter of which the rows hold two or more settings that can be drawn."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.drawable:
            by_name[row.name].append(row)
    return [dial for name in sorted(by_name) for dial in _dials(name, by_name[name])]


def settings_beside(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows of the same plug-in, itself among them, where they are settings of one method; else none."""
    found = [other for other in rows if other.name == row.name]
    return found if len(found) > 1 and row.live else []


def _dials(name: str, rows: Sequence[Row]) -> list[Dial]:
    found = []
    keys = {key for row in rows for key, value in row.config.items() if not _is_digest(value)}
    for key in sorted(keys):
        groups: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            if key in row.config:
                rest = {other: value for other, value in row.config.items() if other != key}
                groups[canonical_json(rest)].setdefault(canonical_json(row.config[key]), row)
        several = [[*group.values()] for _, group in sorted(groups.items()) if len(group) > 1]
        for group in several:
            ordered = tuple(sorted(group, key=lambda row: _in_order(row.config[key])))
            found.append(Dial(name, key, ordered, _apart(group, several, key)))
    return found


def setting_label(row: Row, rows: Sequence[Row]) -> str:
    """``strength 0.7``: the parameters in which a row differs from others of its plug-in; empty where it is alone."""
    others = settings_beside(row, rows)
    differing = [key for key in sorted(row.config) if any(other.config.get(key) != row.config[key] for other in others)]
    said = ((key, row.config[key]) for key in differing if not _is_digest(row.config[key]))
    return ", ".join(f"{key.replace('_', ' ')} {shown_value(value)}" for key, value in said)


def shown_value(value: Any) -> str:
    """``0.35``, ``8``, ``image``."""
    return f"{value:g}" if _is_number(value) else value if isinstance(value, str) else canonical_json(value)


def _apart(group: Sequence[Row], groups: Sequence[Sequence[Row]], key: str) -> str:
    """What is special about the other parameters of a group among those of the same plug-in; nothing if it is alone."""
    config = group[0].config
    differing = {
        name: value
        for name, value in config.items()
        if name != key and any(other[0].config.get(name) != value for other in groups)
    }
    return described(differing)


def _in_order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then all else by its text."""
    return (0, float(value), "") if _is_number(value) else (1, 0.0, canonical_json(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
