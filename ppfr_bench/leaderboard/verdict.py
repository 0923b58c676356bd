"""Verdicts: what a table, and each of its rows, says in plain sentences, made of its numbers and of their limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ppfr_bench.leaderboard.board import Section
from ppfr_bench.leaderboard.definitions import FLAGS, UPPER_BOUND
from ppfr_bench.leaderboard.dials import setting_label
from ppfr_bench.leaderboard.rows import Cell, Estimate, Named, Row
from ppfr_bench.leaderboard.text import at_least, counted, interval, number, plain, words
from ppfr_bench.leaderboard.titles import in_words
from ppfr_bench.tracks.base import Privacy

LEVELS = (
    (0.75, "most"), (0.5, "more than half"), (0.25, "a part"), (0.05, "little"), (0.005, "almost nothing"),
    (0.0, "nothing"),
)  # fmt: skip
LISTED = 5  # A warning lists so many of what has raised it.
HIDDEN, PARTLY = 0.5, 0.25  # Something is hidden, or hidden in part, whose lower limit is at least this.
IN_CLEAR = "who steals its database has the faces' templates unprotected: no attack here counts that"
LOOKS = ("appearance", "identity")  # A table with these privacies is of images that a recognizer can name.
NAMING: dict[Named, str] = {
    "released": "the released face is named for {}",
    "rebuilt": "a rebuilt face is named for {}",
    "retrained": "a retrained recognizer names {}",
}


class Warned(NamedTuple):
    """A warning: what is said, what raised it, and the name of the flag, where it is one."""

    words: str
    where: str
    flag: str = ""


def lower(estimate: Estimate) -> float | None:
    """The lower limit of the 95% interval, or the value where there is no interval; None where nothing is known."""
    return estimate.interval[0] if estimate.value is not None and estimate.interval else estimate.value


def level(share: float) -> str:
    """A share in [0, 1] in words, such as ``most`` or ``almost nothing``."""
    return next(said for least, said in LEVELS if share >= least or least == 0.0)


def full_title(row: Row, section: Section) -> str:
    """``Stochastic local-feature anonymizer, strength 0.7``."""
    return plain(", ".join(filter(None, (row.title, setting_label(row, section.rows)))), 120)


def shown_privacies(section: Section) -> tuple[str, ...]:
    """The privacies of the short table: the first two of the track."""
    return section.privacies[:2] if section.rules is None else section.rules.privacies[:2]


# A row ---------------------------------------------------------------------------------------------------------------


def row_verdict(row: Row, section: Section) -> str:
    """What a row says, in one or two plain sentences.

    ``Hides looks, not identity: a rebuilt face is named for 96 of 100 (92 to 99); a retrained recognizer names 100 of
    100. One seed.``
    """
    if row.control:
        return "Control: nothing is protected." if row.unprotected else "Control: the other end of the scale."
    if not row.complete:
        return f"No verdict: {row.measured} of {row.expected} cells gave a number. What was not measured is no privacy."
    said = _looks(row) if set(LOOKS) <= set(row.privacies) else _other(row, section)
    before = {"": "", "claimed": "Claimed by its authors: ", "refuted": "Claim refuted: "}[row.claim]
    after = " A published attack takes more, so it has no rank." if row.refuted else ""
    return f"{before}{said} {seeds(row, section)}{after}"


def seeds(row: Row, section: Section) -> str:
    """How often the attacks on a row were trained: ``One seed.`` or ``3 seeds.``"""
    count = 1 + len(section.other_seeds.get(row.defense, {}))
    return "One seed." if count == 1 else f"{count} seeds."


def _looks(row: Row) -> str:
    """Of images and representations."""
    looks, who = (lower(row.privacies[name].estimate) for name in LOOKS)
    if looks is None or who is None:
        return "What it hides is not known."
    clauses = list(naming(row))
    said = f"{_head(looks, who)}{': ' if clauses else ''}{'; '.join(clauses)}."
    kept = row.retention
    if kept.value is not None and (kept.interval or (kept.value,))[-1] < HIDDEN:
        said += f" Recognizers keep {level(max(kept.value, 0.0))}: {_with_interval(kept)}."
    return said


def _head(looks: float, who: float) -> str:
    """``Hides looks, not identity``, by the lower limits of both privacies."""
    whole = [name for name, share in (("looks", looks), ("identity", who)) if share >= HIDDEN]
    part = [name for name, share in (("looks", looks), ("identity", who)) if PARTLY <= share < HIDDEN]
    none = [name for name, share in (("looks", looks), ("identity", who)) if share < PARTLY]
    if len(none) == 2:
        return "Hides neither looks nor identity"
    hides = [" and ".join(whole), f"{' and '.join(part)} in part" if part else ""]
    return f"Hides {', '.join(filter(None, hides))}{f', not {none[0]}' if none else ''}"


def naming(row: Row) -> Iterator[str]:
    """How many people attackers name: from the face, released or rebuilt, and with a recognizer that was retrained."""
    best: dict[Named, Estimate] = {}
    for cell in row.cells:
        if cell.state == "ok" and cell.named_by and cell.rank_1.value is not None:
            before = best.get(cell.named_by)
            if before is None or before.value is None or cell.rank_1.value > before.value:
                best[cell.named_by] = cell.rank_1
    ways: tuple[Named, Named] = ("released", "rebuilt")
    there = [way for way in ways if way in best]
    told: list[Named] = [max(there, key=lambda way: best[way].value or 0.0)] if there else []
    if "retrained" in best:
        told.append("retrained")
    for way in told:
        yield NAMING[way].format(_of_100(best[way]))


def _of_100(estimate: Estimate) -> str:
    """``96 of 100 (92 to 99)``."""
    assert estimate.value is not None, "only of what has a value"
    said = f"{100 * estimate.value:.0f} of 100"
    if estimate.interval and estimate.interval[0] < estimate.interval[1]:
        said += " ({:.0f} to {:.0f})".format(*(100 * end for end in estimate.interval))
    return said


def _other(row: Row, section: Section) -> str:
    """Of any other track: each number that it is judged by, in words and as its lower limit."""
    assert section.rules is not None, "a table with rows has a track"
    said = []
    for name in shown_privacies(section):
        least, title = lower(row.privacies[name].estimate), section.rules.hidden_title(name)
        said.append(f"{title}: {'not known' if least is None else f'{level(least)} (at least {at_least(least)})'}")
    kept = lower(row.retention)
    said.append(f"{section.rules.kept_title}: {'not known' if kept is None else f'at least {at_least(kept)}'}")
    first, *others = said
    return f"{'; '.join([first, *(one[:1].lower() + one[1:] for one in others)])}."


def _with_interval(estimate: Estimate) -> str:
    """``0.88 (0.83 to 0.92)``."""
    said = f" ({interval(estimate.interval)})" if estimate.interval else ""
    return number(estimate.value) + said


# Warnings ------------------------------------------------------------------------------------------------------------


def warnings(row: Row, section: Section) -> dict[str, list[Warned]]:
    """The warnings of a row by what they concern: ``retention``, a privacy of the short table, or nothing of these.

    A privacy that is shown as 0 is not called an upper bound, or the work of an earlier attack: no stronger attack
    could lower it.
    """
    found: dict[str, list[Warned]] = {place: [] for place in ("retention", *shown_privacies(section), "")}
    for flag, raised in row.flags:
        by_place: dict[str, list[str]] = {}
        for where in raised:
            by_place.setdefault(_concerned(row, section, where), []).append(where)
        for place, wheres in by_place.items():
            warned = _warned(flag, wheres, section)
            if not (warned.words.endswith(UPPER_BOUND) and place in row.privacies and _is_none(row.privacies[place])):
                found[place].append(warned)
    for name in shown_privacies(section):
        privacy = row.privacies[name]
        if privacy.attack in section.changes.attacks and not row.control and not _is_none(privacy):
            found[name].append(_earlier(privacy.attack, section))
    if row.card.get("stored_in_clear") and not row.control:
        found[shown_privacies(section)[0]].append(Warned("the matcher stores plain templates", IN_CLEAR))
    rest = found[""]
    if row.claim:
        rest.append(Warned(row.claim_title, row.unranked))
    if row.refuted:
        rest.append(Warned("refuted elsewhere", row.refuted))
    if f"defense {row.defense}" in section.changes.others:
        rest.append(Warned("an earlier version", "the defense has changed since: that of today may hide more, or less"))
    if not row.complete:
        rest.append(Warned(row.completeness, "what was not measured is no privacy"))
    if not row.control and len(section.other_seeds.get(row.defense, {})) == 0:
        rest.append(Warned("one seed", "another training of the attacks may give other numbers"))
    return found


def _earlier(attack: str, section: Section) -> Warned:
    """What is said of a number that an attack has set which has changed since."""
    title = section.attack_titles.get(attack, attack)
    return Warned("set by an earlier attack", f"“{title}” has changed since: that of today may recover more, or less")


def _is_none(privacy: Privacy) -> bool:
    """Whether nothing is left of a privacy, to two digits."""
    return privacy.estimate.value is not None and privacy.estimate.value < 0.005


def _concerned(row: Row, section: Section, where: str) -> str:
    """What a flag concerns that the cell or pair of cells ``where`` raised: it begins with an attack or ``utility``."""
    label = where.split(" ")[0]
    if label == "utility":
        return "retention"
    sets = {cell.sets for cell in row.cells if cell.attack == label or label in cell.sources}
    return next((name for name in shown_privacies(section) if name in sets), "")


def flags(row: Row, section: Section) -> list[Warned]:
    """The flags of a row in words, with what raised each."""
    return [_warned(flag, raised, section) for flag, raised in row.flags]


def cell_flags(cell: Cell, section: Section) -> list[Warned]:
    """The flags of one cell in words."""
    return [_warned(flag, [cell.title], section) for flag in cell.flags]


def _warned(flag: str, wheres: Sequence[str], section: Section) -> Warned:
    """A flag in words, and the titles of what raised it; of an attack that stopped early, at which of its steps."""
    _, _, steps = wheres[0].partition(" at ")
    said = FLAGS.get(flag, words(flag)).replace("{}", steps or "an early step")
    raised = [in_words(where, section.attack_titles) for where in wheres]
    more = [f"and {len(raised) - LISTED} others"] if len(raised) > LISTED + 1 else raised[LISTED:]
    return Warned(said, f"raised by {'; '.join([*raised[:LISTED], *more])}", flag)


# A table -------------------------------------------------------------------------------------------------------------


def table_verdict(section: Section) -> list[tuple[str, str]]:
    """Three questions and the sentences that answer them: what is hidden, from whom, and how surely."""
    if section.rules is None or not section.rows:
        return []
    ranked = [row for row in section.rows if row.rank is not None]
    if not ranked:
        return [(section.rules.asks[0], "Not known: no defense of this table has a rank, as the warnings say.")]
    first = ranked[0]
    answers = (_what(first, ranked, section), _from_whom(first, section), _how_surely(first, ranked, section))
    return list(zip(section.rules.asks, answers, strict=True))


def _what(first: Row, ranked: list[Row], section: Section) -> str:
    assert section.rules is not None, "only of a table with a track"
    hidden = []
    for name in section.rules.scored or section.rules.privacies[:1]:
        least = lower(first.privacies[name].estimate)
        hidden.append(f"{section.rules.hidden_title(name).lower()}: at least {at_least(least)}")
    kept = f"{section.rules.kept_title.lower()}: {_with_interval(first.retention)}"
    count = f"Of {len(ranked)} ranked defenses, " if len(ranked) > 1 else ""
    title = full_title(first, section)
    return f"{count}{title} has the best score ({', '.join((*hidden, kept))}; 0 is nothing, 1 is everything)."


def _from_whom(first: Row, section: Section) -> str:
    """How many attacks were run, which recovers most of the first row, and what that row does not hide."""
    assert section.rules is not None, "only of a table with a track"
    count = sum(bool(attack.sets) for attack in section.attacks)
    releases = max((cell.shots for cell in first.cells if cell.state == "ok"), default=1)
    many = f", with up to {releases} releases of each photo" if releases > 1 else ""
    scored = section.rules.scored or section.rules.privacies[:1]
    labels = sorted({first.privacies[name].attack for name in scored if first.privacies[name].attack})
    setters = " and ".join(f"“{section.attack_titles.get(label, label)}”" for label in labels)
    most = f"{setters} recover{'s' if len(labels) == 1 else ''} most of the first row"
    run = f"{counted(count, 'attack')} {'was' if count == 1 else 'were'} run{many}"
    return f"{run}; {most}{_but(first, list(naming(first)))}."


def _but(first: Row, clauses: list[str]) -> str:
    """How far the first row hides identity, and how many people attackers name."""
    if not clauses:
        return ""
    who = lower(first.privacies["identity"].estimate) or 0.0
    hidden = "and identity is hidden" if who >= HIDDEN else "but identity is not hidden"
    return f", {'and identity is hidden in part' if PARTLY <= who < HIDDEN else hidden}: {'; '.join(clauses)}"


def _how_surely(first: Row, ranked: list[Row], section: Section) -> str:
    tied = sum(row is not first and row.rank_interval is not None and row.rank_interval[0] == 1 for row in ranked)
    others = {0: "no other defense can be first", 1: "1 other defense can be first as well"}
    apart = others.get(tied, f"{tied} other defenses can be first as well")
    repeated = len(section.other_seeds)
    trained = (
        f"the attacks on {repeated} of {len(section.rows)} rows were trained with further seeds"
        if repeated else "all was measured with one seed, and another training of the attacks may give other numbers"
    )  # fmt: skip
    flagged = sum(bool(row.flags) for row in ranked)
    warned = f"; {flagged} of {len(ranked)} ranked rows carry a warning" if flagged else ""
    warned += _since(first, section)
    return f"With 95% confidence {apart}; {trained}{warned}; a stronger attack can only lower what is claimed here."


def _since(first: Row, section: Section) -> str:
    """How many attacks have changed since, and whether one of them has set the first row; empty where none has."""
    labels = [attack.label for attack in section.attacks]
    changed = [label for label in labels if label in section.changes.attacks]
    if not changed:
        return ""
    set_by = {first.privacies[name].attack for name in shown_privacies(section)}
    one = len(changed) == 1
    among = f", {'which' if one else 'among them one that'} sets a number of the first row,"
    return (
        f"; {len(changed)} of {counted(len(labels), 'attack')}{among if set_by & set(changed) else ''} "
        f"{'has' if one else 'have'} changed since it was measured"
    )
