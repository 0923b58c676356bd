"""From a number on a page to its records, and to a line that can be cited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.dials import setting_label
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import bracketed, plain, short_key, tied

AUTHORS = "The ppfr-bench authors"


class Source(NamedTuple):
    """A record that a number is made of: what was measured, and its key."""

    title: str
    key: str


def sources(row: Row, column: str) -> list[Source]:
    """The records behind a number of a row, by the name of its column; none where no record has it."""
    if column == "retention" or column.endswith("_retention"):
        return [Source(f"utility / {use.recognizer}", use.key) for use in row.utilities if use.state == "ok"]
    if column == "score":
        return [*sources(row, "retention"), *(one for name in row.privacies for one in _setter(row, name))]
    return [one for name in row.privacies if name in column for one in _setter(row, name)]


def _setter(row: Row, privacy: str) -> list[Source]:
    found = row.privacies[privacy]
    return [Source(found.set_by, found.estimate.key)] if found.estimate.key else []


class Citation(NamedTuple):
    """How a row is cited: one sentence, the keys of its records, and BibTeX."""

    sentence: str
    keys: tuple[str, ...]
    bibtex: str


def citation(board: Board, section: Section, row: Row) -> Citation:
    """Value, interval and attack of each number of a row, with suite, revision, version, commit and records."""
    label = setting_label(row, section.rows)
    name = f"{plain(row.title, 120)} ({', '.join(filter(None, (row.defense, label)))})"
    numbers = [f"retention {bracketed(row.retention)}"]
    for privacy in section.privacies:
        found = row.privacies[privacy]
        if found.estimate.value is not None:
            numbers.append(f"{privacy.replace('_', ' ')} privacy {bracketed(found.estimate)} by {found.set_by}")
    ranked = [one for one in section.rows if one.rank is not None]
    rank = (
        f"rank {tied(row.rank, row.rank_interval) or row.rank} of {len(ranked)}" if row.rank is not None else "no rank"
    )
    seeds = f"seed {', '.join(map(str, section.seeds))}"
    revision = section.revision[:12]
    where = f"suite {board.suite}, {section.heading}, revision {revision}, {seeds}, {made_by(board)}"
    keys = tuple(dict.fromkeys(short_key(one.key) for one in sources(row, "score")))
    sentence = plain(
        f"{name}: {'; '.join(numbers)}; {rank}. 95% intervals in brackets. {where[0].upper()}{where[1:]}.", 1500
    )
    return Citation(sentence, keys, _bibtex(board, section, row, name, where, keys))


def made_by(board: Board) -> str:
    """``ppfr-bench 0.1.0, commit 0123456789ab``: where most records come from; ``unknown`` where none says."""
    places = sorted(board.environments, key=lambda one: -one[1])
    if not places:
        return "ppfr-bench, version unknown"
    fields, _ = places[0]
    commits = _commits(one for one, _ in places)
    return f"ppfr-bench {fields['ppfr_bench']}, commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"


def _commits(places: Iterable[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(place["commit"][:12] for place in places))


def _bibtex(board: Board, section: Section, row: Row, name: str, where: str, keys: Sequence[str]) -> str:
    """An entry whose year and address are those of who publishes the page: no record holds them."""
    entry = re.sub(r"[^A-Za-z0-9-]+", "-", f"ppfr-bench-{board.suite}-{section.dataset}-{row.defense}")
    fields = {
        "title": f"{name} in the suite {board.suite} of ppfr-bench",
        "author": f"{{{AUTHORS}}}",
        "howpublished": where,
        "note": f"Records {', '.join(keys)}",
    }
    lines = [f"  {field} = {{{_braced(value)}}}," for field, value in fields.items()]
    return "\n".join([f"@misc{{{entry},", *lines, "}"])


def _braced(value: str) -> str:
    """Text that BibTeX takes for text."""
    return re.sub(r"([%&#_$])", r"\\\1", plain(value, 1000))
