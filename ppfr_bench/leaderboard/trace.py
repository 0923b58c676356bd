"""From a number on a page to its records, and to a line that can be cited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.dials import setting_label
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import bracketed, link, plain, short_key, tied
from ppfr_bench.leaderboard.titles import in_words
from ppfr_bench.tracks.base import Utility, load_track, unseen

AUTHORS = "The ppfr-bench authors"
NO_DATE = "n.d."  # What author-year styles print where a year is missing.


class Source(NamedTuple):
    """A record that a number is made of: what was measured, and its key."""

    title: str
    key: str


def sources(row: Row, column: str, titles: Mapping[str, str]) -> list[Source]:
    """The records behind a number of a row, by the name of its column; none where no record has it.

    Args:
        titles: of attacks, by label.
    """
    if column == "retention":
        return _used(load_track(row.track).kept_by(row.utilities))
    if column.endswith("_retention"):  # It stands beside that of the recognizer which was fine-tuned.
        return _used(unseen([use for use in row.utilities if not use.adapted]))
    if column == "score":
        kept = sources(row, "retention", titles)
        return [*kept, *(one for name in row.privacies for one in _setter(row, name, titles))]
    return [one for name in row.privacies if name in column for one in _setter(row, name, titles)]


def _used(utilities: Iterable[Utility]) -> list[Source]:
    return [Source(f"utility / {use.recognizer}" if use.recognizer else "utility", use.key) for use in utilities]


def _setter(row: Row, privacy: str, titles: Mapping[str, str]) -> list[Source]:
    found = row.privacies[privacy]
    return [Source(in_words(found.set_by, titles), found.estimate.key)] if found.estimate.key else []


class Citation(NamedTuple):
    """How a row is cited: one sentence, the keys of its records, BibTeX, and the fields that nobody has filled in."""

    sentence: str
    keys: tuple[str, ...]
    bibtex: str
    unfilled: tuple[str, ...]


@cache
def publication(place: Path = Path(__file__).parents[2] / "CITATION.cff") -> dict[str, str]:
    """``date-released`` and ``url`` of the checkout's ``CITATION.cff``, where filled in: no record holds them."""
    text = place.read_text(encoding="utf-8") if place.is_file() else ""  # A wheel has none.
    found = re.findall(r"^(date-released|url):[ \t]*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    return dict(found)


def citation(board: Board, section: Section, row: Row, published: Mapping[str, str] | None = None) -> Citation:
    """Value, interval and attack of each number of a row, with suite, revision, version, commit and records.

    Args:
        published: date and address as ``publication`` gives them; those of this checkout, without.
    """
    known = publication() if published is None else published
    label = setting_label(row, section.rows)
    name = f"{plain(row.title, 120)} ({', '.join(filter(None, (row.defense, label)))})"
    numbers = [f"retention {bracketed(row.retention)}"]
    for privacy in section.privacies:
        found = row.privacies[privacy]
        if found.estimate.value is not None:
            by = in_words(found.set_by, section.attack_titles)
            numbers.append(f"{privacy.replace('_', ' ')} privacy {bracketed(found.estimate)} by {found.attack} ({by})")
    ranked = [one for one in section.rows if one.rank is not None]
    rank = (
        f"rank {tied(row.rank, row.rank_interval) or row.rank} of {len(ranked)}" if row.rank is not None else "no rank"
    )
    seeds = f"seed {', '.join(map(str, section.seeds))}"
    where = f"suite {board.suite}, {section.heading}, revision {section.revision}, {seeds}, {made_by(board)}"
    keys = tuple(dict.fromkeys(one.key for one in sources(row, "score", {})))
    sentence = plain(
        f"{name}: {'; '.join(numbers)}; {rank}. 95% intervals in brackets. {where[0].upper()}{where[1:]}.", 1500
    )
    fields = {
        "title": f"{name} in the suite {board.suite} of ppfr-bench", "author": f"{{{AUTHORS}}}",
        "year": known.get("date-released", NO_DATE)[:4], "howpublished": where,
        "note": f"Records {', '.join(map(short_key, keys))}",
    }  # fmt: skip
    unfilled = tuple(field for field in ("date-released", "url") if field not in known)
    entry = f"ppfr-bench-{board.suite}-{section.dataset}-{row.defense}"
    return Citation(sentence, keys, _bibtex(entry, fields, link(known.get("url"))), unfilled)


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


def _bibtex(name: str, fields: Mapping[str, str], url: str) -> str:
    """An entry; the styles of BibTeX print its address as it stands."""
    lines = [f"  {field} = {{{_braced(value)}}}," for field, value in fields.items()]
    lines += [f"  url = {{{url}}},"] if url else []
    return "\n".join([f"@misc{{{re.sub(r'[^A-Za-z0-9-]+', '-', name)},", *lines, "}"])


def _braced(value: str) -> str:
    """Text that BibTeX takes for text."""
    return re.sub(r"([%&#_$])", r"\\\1", plain(value, 1000))
