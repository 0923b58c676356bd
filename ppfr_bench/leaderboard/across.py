"""Where each defense was measured: its rows on all suites of the same results, side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import at_least, counted, listed
from ppfr_bench.leaderboard.verdict import full_title, lower, shown_privacies
from ppfr_bench.records.hashing import canonical_json

FIRST = ("quick", "standard", "lfw_quick")  # Suites of images stand first, all others follow by name.
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Place:
    """A table of a suite.

    Attributes:
        title: the suite, with the data set where it has several tables of the track.
        earlier: whether one of its attacks has changed since.
    """

    title: str
    section: Section
    earlier: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits all its numbers."""
        return ("earlier attacks",) if self.earlier else ()

    @property
    def attacks(self) -> str:
        """``synthetic, 10 attacks``: those that set a privacy."""
        return f"{self.section.dataset}, {counted(sum(bool(one.sets) for one in self.section.attacks), 'attack')}"


@dataclass(frozen=True)
class Entry:
    """A defense in a place.

    Attributes:
        row: None where it was not measured.
        hidden: what is hidden at least, in [0, 1], of the first privacy; None where ``gap`` says why.
        others: the same of the other privacies of the short table; None where no attack sets one.
        notes: what limits the numbers.
    """

    place: Place
    row: Row | None = None
    hidden: float | None = None
    others: tuple[float | None, ...] = ()
    gap: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A defense under one setting, and its entry in each place."""

    label: str
    title: str
    entries: tuple[Entry, ...]

    @property
    def measured(self) -> list[Entry]:
        """The entries with numbers."""
        return [entry for entry in self.entries if entry.hidden is not None]

    @property
    def least(self) -> Entry | None:
        """Where least is hidden; None where no place has a number."""
        return min(self.measured, key=_hidden, default=None)

    @property
    def sentence(self) -> str:
        """``Measured on quick (0.40) and lfw_quick (0.51, earlier attacks); not measured on standard.``"""
        found = [
            f"{entry.place.title} ({', '.join([at_least(entry.hidden), *entry.place.notes, *entry.notes])})"
            for entry in self.measured
        ]
        gaps: dict[str, list[str]] = {}
        for entry in self.entries:
            if entry.gap:
                gaps.setdefault(entry.gap, []).append(entry.place.title)
        said = [f"measured on {listed(found)}"] if found else []
        said += [f"{gap} on {listed(places)}" for gap, places in gaps.items()]
        text = "; ".join(said)
        return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Across:
    """All tables of a track, and every defense that one of them has."""

    title: str
    hidden: tuple[str, ...]  # What each number of an entry is.
    places: tuple[Place, ...]
    lines: tuple[Line, ...]

    def of(self, section: Section, row: Row) -> Line | None:
        """The line of a row; None where the section is not of these tables."""
        found = (line for line in self.lines for entry in line.entries if entry.row is row)
        return next(found, None) if any(place.section is section for place in self.places) else None


def in_order(suites: Iterable[str]) -> list[str]:
    """Names of suites as pages list them."""
    return sorted(suites, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def across(boards: Iterable[Board], tracks: Collection[str] | None = None) -> list[Across]:
    """For each track that two tables at least have: who was measured where.

    Defenses that were measured everywhere stand first, then in the order of the least that is hidden anywhere.
    Controls are left out.

    Args:
        tracks: by name, the only ones that are asked for; all by default.
    """
    by_suite = {board.suite: board for board in boards}
    by_track: dict[str, list[tuple[Board, Section]]] = {}
    for suite in in_order(by_suite):
        board = by_suite[suite]
        if tracks is not None and _tracks(board).isdisjoint(tracks):
            continue  # Its rows would be made for nothing.
        for section in board.sections:
            if section.rules is not None and section.rows and (tracks is None or section.track in tracks):
                by_track.setdefault(section.track, []).append((board, section))
    found = [_track(tables) for tables in by_track.values() if len(tables) > 1]
    return [one for one in found if one.lines]


def _tracks(board: Board) -> set[str]:
    """Those of its plan."""
    return {planned.track for table in board.plan.tables.values() for planned in table.defenses.values()}


def _track(tables: Sequence[tuple[Board, Section]]) -> Across:
    suites = [board.suite for board, _ in tables]
    places = []
    for board, section in tables:
        title = board.suite if suites.count(board.suite) == 1 else f"{board.suite}, {section.dataset}"
        earlier = not {one.label for one in section.attacks}.isdisjoint(board.changes.attacks)
        places.append(Place(title, section, earlier))
    keys: dict[tuple[str, str], None] = {}
    for place in places:
        keys |= {_key(row): None for row in place.section.rows if not row.control}
    lines = [_line(key, places) for key in keys]
    first, rules = places[0].section, places[0].section.rules
    assert rules is not None, "a table of a track has its rules"
    lines.sort(key=lambda line: (len(line.measured) < len(places), -_hidden(line.least), line.title, line.label))
    hidden = tuple(rules.hidden_title(name) for name in shown_privacies(first))
    return Across(first.track_title, hidden, tuple(places), tuple(lines))


def _key(row: Row) -> tuple[str, str]:
    """What makes two rows of different suites the same defense: all but its version, which the entry tells."""
    return row.defense, canonical_json({"name": row.name, "config": row.config})


def _hidden(entry: Entry | None) -> float:
    """The number of an entry; less than any where there is none."""
    return entry.hidden if entry is not None and entry.hidden is not None else -1.0


def _line(key: tuple[str, str], places: Sequence[Place]) -> Line:
    rows = [next((row for row in place.section.rows if _key(row) == key), None) for place in places]
    title = next(full_title(row, place.section) for row, place in zip(rows, places, strict=True) if row is not None)
    return Line(key[0], title, tuple(_entry(place, row) for place, row in zip(places, rows, strict=True)))


def _entry(place: Place, row: Row | None) -> Entry:
    if row is None:
        return Entry(place, gap=NOT_MEASURED)
    if row.claim == "claimed":
        return Entry(place, row, gap=row.claim_title)
    first, *others = (lower(row.privacies[name].estimate) for name in shown_privacies(place.section))
    if first is None or not row.complete:
        return Entry(place, row, gap=NOT_MEASURED if row.complete else row.completeness)
    old, refuted = f"defense {row.defense}" in place.section.changes.others, bool(row.refuted)
    notes = ["earlier version of the defense"] * old + ["refuted elsewhere"] * refuted
    return Entry(place, row, first, tuple(others), notes=tuple(notes))
