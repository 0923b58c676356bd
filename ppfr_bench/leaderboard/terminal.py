"""The leaderboard on the terminal, and one row or record of it explained in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.rows import Estimate, Row, Scale, Utility
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.tracks.base import Shown, Track, load_track

__all__ = ["explain", "print_table"]


def print_table(rows: Sequence[Row], console: Console, note: str = "") -> None:
    """One table for each suite, data set and track in the rows.

    Args:
        note: what else is to be said, such as ``Board.note`` on records of no cell of the plan.
    """
    if not rows:
        console.print("No defense has been measured yet.", highlight=False)
    for key in dict.fromkeys((row.suite, row.dataset, row.track) for row in rows):
        members = [row for row in rows if (row.suite, row.dataset, row.track) == key]
        console.print(_table(members))
        for row in members:
            for cell in row.gaps:
                line = f"{_safe(row.defense)}: {_safe(cell.title)} {cell.state}: {_safe(cell.reason)}"
                console.print(f"[yellow]{line}[/yellow]", highlight=False)
    if note:
        console.print(f"[yellow]{_safe(note)}[/yellow]", highlight=False)


def _table(rows: Sequence[Row]) -> Table:
    first = rows[0]
    rules = load_track(first.track)
    columns = rules.columns(tuple(first.privacies))
    noted = next((column for column in columns if column.note), None)  # The first alone: a terminal is narrow.
    table = Table(title=_safe(f"{first.suite}: {first.dataset}, {rules.title}"), title_justify="left")
    table.add_column("rank", justify="center", no_wrap=True)
    table.add_column("defense", overflow="fold")
    for column in columns:
        table.add_column(_safe(column.title.lower()), justify="right")
        if column is noted:
            table.add_column(_safe(column.note.replace("_", " ")), overflow="fold")
    if rules.likeness:
        table.add_column(f"{' / '.join(text.measure(name) for name in rules.likeness)} of best", justify="right")
    table.add_column("images/s", justify="right")
    table.add_column("state", overflow="fold")
    before: Row | None = None
    for row in rows:
        if before is not None and (before.rank is None) != (row.rank is None):
            table.add_section()
        numbers: list[str] = []
        for column in columns:
            shown = column.of(row)
            numbers += [_brief(shown), *([_safe(shown.note)] if column is noted else [])]
        table.add_row(
            text.ranks(row.rank, row.rank_interval), _name(row), *numbers, *_best(row, rules),
            text.speed(row.images_per_second), _state(row),
        )  # fmt: skip
        before = row
    return table


def _name(row: Row) -> str:
    return f"[bold]{_safe(row.defense)}[/bold]" if row.front else _safe(row.defense)


def _brief(shown: Shown) -> str:
    return escape(text.bracketed(shown.estimate)) if shown.bound is None else f"at most {text.number(shown.bound)}"


def _best(row: Row, rules: Track) -> list[str]:
    """Likeness of the best reconstruction, in one column, if the track shows any."""
    if not rules.likeness:
        return []
    if row.reconstruction is None:
        return [text.MISSING]
    return [" / ".join(text.number(scale.estimate.value) for scale in row.reconstruction.likeness.values())]


def _state(row: Row) -> str:
    parts = ["control"] if row.control else []
    parts += ["front"] if row.front else []
    parts += [row.claim_title] if row.claim else []
    parts += ["refuted elsewhere"] if row.refuted else []
    parts += [] if row.complete else [row.completeness]
    parts += [_safe(flag) for flag, _ in row.flags]
    return ", ".join(parts)


def explain(what: Record | Row, console: Console) -> None:
    """A record, or a defense's row, in sentences: what each number is, what set it, between which ends, and why not."""
    lines = _explain_record(what) if isinstance(what, Record) else _explain_row(what)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    console.print()


def _explain_row(row: Row) -> list[str]:
    rules = load_track(row.track)
    what = ": ".join(_safe(part) for part in (row.setting, row.title) if part)
    heading = f"[bold]{_safe(row.defense)}[/bold] ({what}) in {_safe(row.suite)}, data set "
    lines = [f"{heading}{_safe(row.dataset)}, {_safe(rules.title)}"]
    if row.rank is None:
        lines.append(f"  Rank: none. {_safe(row.unranked)}.")
    else:
        tied = text.tied(row.rank, row.rank_interval)
        lines.append(f"  Rank {row.rank}{f', {tied}: it cannot be told from those between' if tied else ''}.")
    if row.front:
        lines.append("  On the Pareto front: no complete defense beats it in both numbers that defenses trade between.")
    for column in rules.columns(tuple(row.privacies)):
        shown = column.of(row)
        by = f", {_safe(column.note.replace('_', ' '))} {_safe(shown.note)}" if shown.note else ""
        lines.append(f"  {_safe(column.title)} {_words(shown.estimate)}{by}: {_safe(column.description)}")
        if shown.estimate.key and shown.note:
            lines.append(f"    [dim]{_safe(text.show(shown.estimate.key))}[/dim]")
    if row.promise:
        lines.append(f"  Differential privacy of one release: {_safe(row.promise)}; the epsilons of several add up.")
    lines += [line for utility in row.utilities for line in _explain_utility(utility, rules)]
    lines += _explain_reconstruction(row)
    lines.append("  Leakage by cell (0: learnt nothing, 1: as if unprotected):")
    for cell in row.cells:
        if cell.kind == "attack" and cell.state == "ok" and cell.shown:
            found = ", ".join(f"{_safe(name)} {_words(estimate)}" for name, estimate in cell.shown)
            lines.append(f"    {_safe(cell.title)}: {found}")
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


def _explain_reconstruction(row: Row) -> list[str]:
    if row.reconstruction is None:
        return ["  Best reconstruction: none was measured."]
    scales = row.reconstruction.likeness.items()
    return [
        f"  Best reconstruction: {_safe(row.reconstruction.attack)}.",
        *(f"    {_safe(text.measure(name))} {_between(scale)}." for name, scale in scales),
    ]


def _explain_utility(utility: Utility, rules: Track) -> list[str]:
    seen = "surrogate, not part of retention if another is unseen" if utility.surrogate else "unseen"
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
