"""The leaderboard on the terminal, and one row or record of it explained in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.dials import setting_label
from ppfr_bench.leaderboard.rows import Estimate, Row, Scale, Utility
from ppfr_bench.leaderboard.titles import in_words
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.tracks.base import Shown, Track, load_track

__all__ = ["explain", "print_table"]

WIDE = 120  # Columns of a terminal from which on a table has all of its columns.
_FOLDED = 14  # The least columns for words, which are folded; numbers are never cut.


@dataclass(frozen=True)
class _Column:
    """A column as it is printed: ``words`` are folded, all else has the room that it needs.

    Where there is no room for all columns, those of the largest ``spare`` are left out first, those of 0 last.
    """

    title: str
    cells: tuple[Text, ...]
    words: bool = False
    spare: int = 0

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes, or takes at least if it holds words."""
        lines = [line for cell in self.cells for line in cell.plain.split("\n")]
        return _FOLDED if self.words else max(map(cell_len, [*self.title.split(), *lines]), default=1)


def print_table(
    rows: Sequence[Row], console: Console, note: str = "", titles: Mapping[str, str] | None = None, warning: str = ""
) -> None:
    """One table for each suite, data set and track in the rows: fewer columns where the console is below 120 wide.

    Args:
        note: what else is to be said, such as ``Board.note`` on records of no cell of the plan.
        titles: of attacks, by label; without them labels are shown.
        warning: what is to be read before the numbers, such as ``Board.before_numbers``.
    """
    if not rows:
        console.print("No defense has been measured yet.", highlight=False)
    if warning:
        console.print(f"[bold yellow]{_safe(warning, 3000)}[/bold yellow]", highlight=False, soft_wrap=True)
    for key in dict.fromkeys((row.suite, row.dataset, row.track) for row in rows):
        members = [row for row in rows if (row.suite, row.dataset, row.track) == key]
        console.print(_table(members, console.width, titles or {}))
        for row in members:
            for cell in row.gaps:
                line = f"{_safe(row.defense)}: {_safe(cell.title)} {cell.state}: {_safe(cell.reason)}"
                console.print(f"[yellow]{line}[/yellow]", highlight=False, soft_wrap=True)
    if rows and console.width < WIDE:
        suite = rows[0].suite
        line = f"More columns in a terminal of {WIDE} or more. A row in words:  ppfr-bench show NAME --suite {suite}"
        console.print(_safe(line), highlight=False, soft_wrap=True)
    if note:
        console.print(f"[yellow]{_safe(note)}[/yellow]", highlight=False, soft_wrap=True)


def _table(rows: Sequence[Row], width: int, titles: Mapping[str, str]) -> Table:
    first = rows[0]
    rules = load_track(first.track)
    table = Table(title=_safe(f"{first.suite}: {first.dataset}, {rules.title}"), title_justify="left")
    chosen = _chosen(rows, rules, width, titles)
    for column in chosen:
        fixed = None if column.words else column.width
        table.add_column(
            _safe(column.title), justify="left" if column.words else "right", overflow="fold", width=fixed,
            min_width=None if fixed else _FOLDED,
        )  # fmt: skip
    for cells, (row, after) in zip(zip(*(column.cells for column in chosen), strict=True), _pairs(rows), strict=True):
        ends = after is not None and (row.rank is None) != (after.rank is None)
        table.add_row(*cells, end_section=ends)
    return table


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row | None]]:
    """Each row with the one below it."""
    return [*pairwise(rows), (rows[-1], None)]


def _chosen(rows: Sequence[Row], rules: Track, width: int, titles: Mapping[str, str]) -> list[_Column]:
    """The columns for which there is room, with intervals beside the numbers if they fit, else below them."""
    for between in (" ", "\n") if width >= WIDE else ("\n",):
        found = _columns(rows, rules, between, titles)
        if width < WIDE:
            found = [column for column in found if not column.spare]
        if _room(found) <= width:
            return found
    while len(found) > 3 and _room(found) > width:
        least = max(column.spare for column in found)
        del found[max(at for at, column in enumerate(found) if column.spare == least)]
    return found


def _room(columns: Sequence[_Column]) -> int:
    return sum(column.width + 3 for column in columns) + 1


def _columns(rows: Sequence[Row], rules: Track, between: str, titles: Mapping[str, str]) -> list[_Column]:
    """All columns of a table; ``between``: what stands between a number and its interval."""
    known = rules.columns(tuple(rows[0].privacies))
    few = {"score", "retention", f"{rules.privacies[0]}_privacy"} & {column.name for column in known}
    noted = next((column for column in known if column.note), None)  # The first alone: a terminal is narrow.
    found = [_Column("rank", tuple(_rank(row) for row in rows)), _Column("defense", _names(rows), words=True)]
    for column in known:
        cells = tuple(_brief(column.of(row), between) for row in rows)
        found.append(_Column(column.title.lower(), cells, spare=0 if column.name in few else 2))
        if column is noted:
            notes = tuple(Text(text.plain(in_words(column.of(row).note, titles), 120)) for row in rows)
            found.append(_Column(column.note.replace("_", " "), notes, words=True, spare=3))
    if rules.likeness:
        title = f"{' / '.join(text.measure(name) for name in rules.likeness)} of best"
        found.append(_Column(title, tuple(_best(row) for row in rows), spare=4))
    speeds = tuple(Text(text.speed(row.images_per_second)) for row in rows)
    states = tuple(_state(row) for row in rows)
    return [*found, _Column("images/s", speeds, spare=5), _Column("state", states, words=True, spare=1)]


def _rank(row: Row) -> Text:
    """``tied 1 to 6``, or one rank."""
    return Text(text.tied(row.rank, row.rank_interval) or (text.MISSING if row.rank is None else str(row.rank)))


def _names(rows: Sequence[Row]) -> tuple[Text, ...]:
    """Title and setting of each row, and in a line below the name by which commands know it."""
    found = []
    for row in rows:
        title = ", ".join(part for part in (row.title, setting_label(row, rows)) if part)
        said = Text(text.plain(title, 80), style="bold" if row.front else "")
        found.append(said if title == row.defense else said.append(f"\n{text.plain(row.defense, 80)}", style="dim"))
    return tuple(found)


def _brief(shown: Shown, between: str) -> Text:
    if shown.bound is not None:
        return Text(f"at most {text.at_most(shown.bound)}".replace(" ", between))
    return Text(text.bracketed(shown.estimate).replace(" ", between, 1))


def _best(row: Row) -> Text:
    """Likeness of the best reconstruction."""
    if row.reconstruction is None:
        return Text(text.MISSING)
    return Text(" / ".join(text.number(scale.estimate.value) for scale in row.reconstruction.likeness.values()))


def _state(row: Row) -> Text:
    parts = ["control"] if row.control else []
    parts += ["front"] if row.front else []
    parts += [row.claim_title] if row.claim else []
    parts += ["refuted elsewhere"] if row.refuted else []
    parts += [] if row.complete else [row.completeness]
    parts += [text.words(flag) for flag, _ in row.flags]
    return Text(text.plain(", ".join(parts)))


def explain(what: Record | Row, console: Console, titles: Mapping[str, str] | None = None) -> None:
    """A record, or a defense's row, in sentences: what each number is, what set it, between which ends, and why not.

    Args:
        titles: of attacks, by label; without them labels are shown.
    """
    lines = _explain_record(what) if isinstance(what, Record) else _explain_row(what, titles or {})
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    console.print()


def _explain_row(row: Row, titles: Mapping[str, str]) -> list[str]:
    rules = load_track(row.track)
    what = ": ".join(_safe(part) for part in (row.setting, row.title) if part)
    heading = f"[bold]{_safe(row.defense)}[/bold] ({what}) in {_safe(row.suite)}, data set "
    lines = [f"{heading}{_safe(row.dataset)}, {_safe(rules.title)}"]
    if row.plain:
        lines.append(f"  {_safe(row.plain)}")
    if row.rank is None:
        lines.append(f"  Rank: none. {_safe(row.unranked)}.")
    else:
        tied = text.tied(row.rank, row.rank_interval)
        lines.append(f"  Rank {row.rank}{f', {tied}: it cannot be told from those between' if tied else ''}.")
    if row.front:
        lines.append("  On the Pareto front: no complete defense beats it in both numbers that defenses trade between.")
    for column in rules.columns(tuple(row.privacies)):
        shown = column.of(row)
        said = in_words(shown.note, titles) if titles else shown.note
        by = f", {_safe(column.note.replace('_', ' '))} {_safe(said)}" if said else ""
        lines.append(f"  {_safe(column.title)} {_words(shown.estimate)}{by}: {_safe(column.description)}")
        if shown.estimate.key and shown.note:
            lines.append(f"    [dim]{_safe(text.show(shown.estimate.key))}[/dim]")
    if row.promise:
        lines.append(f"  Differential privacy of one release: {_safe(row.promise)}; the epsilons of several add up.")
    lines += [line for utility in row.utilities for line in _explain_utility(utility, rules)]
    lines += _explain_reconstruction(row)
    lines.append("  Leakage by cell (0: learnt nothing, 1: as if unprotected):")
    for cell in row.cells:
        if cell.state == "ok" and cell.leakage:
            lines.append(f"    {_safe(cell.title)}: {_listed(cell.leakage)}")
    lines += _explain_others(row)
    took = text.duration(row.seconds)
    lines.append(f"  Cost: {text.speed(row.images_per_second)} images protected a second; compute time {took}.")
    for flag, where in row.flags:
        lines.append(f"  [yellow]Flag {_safe(flag)}[/yellow], raised by {_safe(', '.join(where))}: see docs/flags.md.")
    lines.append(f"  {row.measured} of {row.expected} cells gave a number.")
    for cell in row.gaps:
        lines.append(f"  [yellow]{_safe(cell.title)} {cell.state}[/yellow]: {_safe(cell.reason, 2000)}")
        if cell.key:
            lines.append(f"    [dim]{_safe(text.show(cell.key))}[/dim]")
    return lines


def _explain_others(row: Row) -> list[str]:
    """What is measured of attacks by which nothing leaks."""
    cells = [cell for cell in row.cells if cell.state == "ok" and cell.others and not cell.leakage]
    lines = [f"    {_safe(cell.title)}: {_listed(cell.others)}" for cell in cells]
    return ["  Measures of attacks that are no leakage, by cell:", *lines] if lines else []


def _listed(numbers: Iterable[tuple[str, Estimate]]) -> str:
    return ", ".join(f"{_safe(name)} {_words(estimate)}" for name, estimate in numbers)


def _explain_reconstruction(row: Row) -> list[str]:
    if row.reconstruction is None:
        return ["  Best reconstruction: none was measured."]
    scales = row.reconstruction.likeness.items()
    return [
        f"  Best reconstruction: {_safe(row.reconstruction.attack)}.",
        *(f"    {_safe(text.measure(name))} {_between(scale)}." for name, scale in scales),
    ]


def _explain_utility(utility: Utility, rules: Track) -> list[str]:
    seen = "surrogate" if utility.surrogate else "seen by the defense" if utility.seen else ""
    seen = f"{seen}, not part of retention if another is unseen" if seen else "unseen"
    seen = "weak, not part of retention" if utility.weak else seen
    seen = "fine-tuned on what is released" if utility.adapted else seen
    name = f"  Recognizer {_safe(utility.recognizer)} ({seen}): " if utility.recognizer else "  Utility: "
    headline = utility.estimate(rules.headline)
    if headline.value is None:
        return [f"{name}not measured: {_safe(headline.reason)}"]
    parts = []
    for column in rules.utility_columns:
        found = utility.estimate(column.name)
        parts.append(f"{_safe(column.title)} {text.percent(found.value) if column.percent else _words(found)}")
    return [f"{name}{'; '.join(parts)}."]


def _explain_record(record: Record) -> list[str]:
    what = f"attack {record.attack.label}" if record.attack else record.cell
    recognizer = f", recognizer {record.recognizer.label}" if record.recognizer else ""
    lines = [
        f"[bold]{_safe(record.defense.label)}[/bold], {_safe(what)}{_safe(recognizer)}: {record.status}",
        f"  [dim]record {_safe(record.key)}[/dim]",
        f"  Suite {_safe(record.suite)}, data set {_safe(record.dataset.label)} revision "
        f"{_safe(record.dataset_revision, 12)}, seed {record.seed}.",
    ]
    if record.attack is not None:
        sets = f"sets {_safe(record.sets.replace('_', ' '))} privacy" if record.sets else "sets no privacy"
        lines.append(
            f"  Scored by {_safe(record.scorer or 'an unnamed scorer')}, {sets}; the attacker is "
            f"{_safe(record.knowledge or 'of unstated knowledge')}."
        )
    if record.reason:
        lines.append(f"  [yellow]{record.status}[/yellow]: {_safe(record.reason, 2000)}")
    for name, measured in sorted(record.metrics.items()):
        lines += _explain_measurement(name, measured)
    for flag in record.flags:
        lines.append(f"  [yellow]Flag {_safe(flag)}[/yellow]: see docs/flags.md.")
    place = record.environment
    lines.append(
        f"  Made by ppfr-bench {_safe(place.ppfr_bench)} (commit {_safe(place.commit or 'unknown', 12)}) on "
        f"{_safe(place.processor)}, {place.threads} threads, in {text.duration(record.cost.seconds)}."
    )
    return lines


def _explain_measurement(name: str, measured: Measurement) -> list[str]:
    ends = [
        f"{words} {text.number(end.value, 4)}"
        for words, end in (("floor (ignoring the target)", measured.floor), ("ceiling (no defense)", measured.ceiling))
        if end is not None
    ]
    unit = f" {_safe(measured.unit)}" if measured.unit and measured.value.value is not None else ""
    way = f", {_way(measured)}" if measured.value.value is not None else ""
    lines = [f"  {_safe(name)}: {'; '.join([f'{_number(measured.value, unit)}{way}', *ends])}"]
    if measured.leakage is not None:
        lines.append(f"    leakage {_number(measured.leakage)}")
    return lines


def _way(measured: Measurement) -> str:
    """Which way is good. Where something leaks by a number, its direction is that of the attacker."""
    if measured.leakage is None:
        return measured.direction.replace("_", " ")
    return f"{'lower' if measured.lower_is_more_alike else 'higher'} leaks more"


def _number(estimate: Estimate, unit: str = "") -> str:
    if estimate.value is None:
        return f"not measured: {_safe(estimate.reason)}"
    interval = f", 95% interval {text.interval(estimate.interval, 4)}" if estimate.interval else ""
    return f"{text.number(estimate.value, 4)}{unit}{interval}, n {estimate.n}"


def _between(scale: Scale) -> str:
    if scale.estimate.value is None:
        return f"not measured ({_safe(scale.estimate.reason)})"
    return (
        f"{text.number(scale.estimate.value, 3)}, between floor {text.number(scale.floor.value, 3)} (ignoring the "
        f"target) and ceiling {text.number(scale.ceiling.value, 3)} (same attack, no defense)"
    )


def _words(estimate: Estimate, digits: int = 2) -> str:
    if estimate.value is None:
        return f"not measured ({_safe(estimate.reason)})"
    interval = f" (95% interval {text.interval(estimate.interval, digits)})" if estimate.interval else ""
    reservation = f" {_safe(estimate.reason)}" if estimate.reason else ""
    return f"{text.number(estimate.value, digits)}{interval}{reservation}"


def _safe(value: object, longest: int = text.LONGEST) -> str:
    """Text of a record that neither the terminal nor rich takes for a command."""
    return escape(text.plain(value, longest))
