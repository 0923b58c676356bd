"""The leaderboard on the terminal, and one row or record of it explained in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.rows import Figure, Row, Scale, Utility
from ppfr_bench.leaderboard.table import path_of
from ppfr_bench.results import MetricValue, Record

__all__ = ["explain", "print_table"]


def print_table(rows: Sequence[Row], console: Console) -> None:
    """One table for each suite, data set and track in the rows."""
    if not rows:
        console.print("No defense has been measured yet.", highlight=False)
    for key in dict.fromkeys((row.suite, row.dataset, row.track) for row in rows):
        members = [row for row in rows if (row.suite, row.dataset, row.track) == key]
        console.print(_table(key, members))
        for row in members:
            for cell in row.gaps:
                line = f"{_safe(row.defense)}: {_safe(cell.title)} {cell.state}: {_safe(cell.reason)}"
                console.print(f"[yellow]{line}[/yellow]", highlight=False)


def _table(key: tuple[str, str, str], rows: Sequence[Row]) -> Table:
    suite, dataset, track = key
    table = Table(title=f"{_safe(suite)}: {_safe(dataset)}, {_safe(track)} track", title_justify="left")
    table.add_column("rank", justify="center", no_wrap=True)
    table.add_column("defense", overflow="fold")
    for name in ("score", "retention", "appearance privacy"):
        table.add_column(name, justify="right")
    table.add_column("set by", overflow="fold")
    table.add_column("identity privacy", justify="right")
    table.add_column("LPIPS / SSIM of best", justify="right")
    table.add_column("images/s", justify="right")
    table.add_column("state", overflow="fold")
    before: Row | None = None
    for row in rows:
        if before is not None and (before.rank is None) != (row.rank is None):
            table.add_section()
        table.add_row(
            text.ranks(row.rank, row.rank_interval), _name(row), _brief(row.score), _brief(row.retention),
            _brief(row.appearance.figure, row.appearance.bound), _safe(row.appearance.set_by),
            _brief(row.identity.figure, row.identity.bound), _best(row), text.speed(row.images_per_second), _state(row),
        )  # fmt: skip
        before = row
    return table


def _name(row: Row) -> str:
    return f"[bold]{_safe(row.defense)}[/bold]" if row.front else _safe(row.defense)


def _brief(figure: Figure, bound: float | None = None) -> str:
    return escape(text.bracketed(figure)) if bound is None else f"at most {text.number(bound)}"


def _best(row: Row) -> str:
    if row.reconstruction is None:
        return text.MISSING
    lpips, ssim = row.reconstruction.lpips.figure.value, row.reconstruction.ssim.figure.value
    return f"{text.number(lpips)} / {text.number(ssim)}"


def _state(row: Row) -> str:
    parts = ["control"] if row.control else []
    parts += ["front"] if row.front else []
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
    what = ": ".join(_safe(part) for part in (row.setting, row.title) if part)
    heading = f"[bold]{_safe(row.defense)}[/bold] ({what}) in {_safe(row.suite)}, data set "
    lines = [f"{heading}{_safe(row.dataset)}, {_safe(row.track)} track"]
    if row.rank is None:
        lines.append(f"  Rank: none. {_safe(row.unranked)}.")
    else:
        low, high = row.rank_interval or (row.rank, row.rank)
        lines.append(f"  Rank {row.rank}; in 95% of the replicates from {low} to {high}.")
    if row.front:
        lines.append("  On the Pareto front: no complete defense beats it in both retention and appearance privacy.")
    lines.append(f"  Score {_words(row.score)}: harmonic mean of retention and appearance privacy.")
    who = "unseen recognizers keep" if row.black_box is None else "a recognizer fine-tuned on it keeps"
    lines.append(f"  Retention {_words(row.retention)}: share of the clear accuracy above chance that {who}.")
    if row.black_box is not None:
        lines.append(f"  Black box {_words(row.black_box)}: the same of unseen recognizers that are given its picture.")
    for name, privacy in (("Appearance", row.appearance), ("Identity", row.identity)):
        by = f", set by {_safe(privacy.set_by)}" if privacy.set_by else ""
        lines.append(f"  {name} privacy {_words(privacy.figure)}{by}: 1 - the largest leakage.")
        if privacy.figure.path:
            lines.append(f"    [dim]record {_safe(privacy.figure.path, 600)}[/dim]")
    if row.promise:
        lines.append(f"  Differential privacy of one release: {_safe(row.promise)}; the epsilons of several add up.")
    lines += [line for utility in row.utilities for line in _explain_utility(utility)]
    if row.reconstruction is not None:
        lines.append(f"  Best reconstruction: {_safe(row.reconstruction.attack)}.")
        lines.append(f"    LPIPS {_between(row.reconstruction.lpips)}; lower is a better likeness.")
        lines.append(f"    SSIM {_between(row.reconstruction.ssim)}; higher is a better likeness.")
    else:
        lines.append("  Best reconstruction: none was measured.")
    lines.append("  Leakage by cell (0: learnt nothing, 1: as if unprotected):")
    for cell in row.cells:
        if cell.kind == "attack" and cell.state == "ok":
            found = ", ".join(f"{_safe(name)} {_words(figure)}" for name, figure in cell.leakage)
            lines.append(f"    {_safe(cell.title)}: {found}")
    took = text.duration(row.seconds)
    lines.append(f"  Cost: {text.speed(row.images_per_second)} images protected a second; its cells took {took}.")
    for flag, where in row.flags:
        lines.append(f"  [yellow]Flag {_safe(flag)}[/yellow], raised by {_safe(', '.join(where))}: see docs/flags.md.")
    lines.append(f"  {row.measured} of {row.expected} cells gave a number.")
    for cell in row.gaps:
        lines.append(f"  [yellow]{_safe(cell.title)} {cell.state}[/yellow]: {_safe(cell.reason, 2000)}")
        if cell.path:
            lines.append(f"    [dim]record {_safe(cell.path, 600)}[/dim]")
    return lines


def _explain_utility(utility: Utility) -> list[str]:
    seen = "surrogate, not part of retention if another is unseen" if utility.surrogate else "unseen"
    seen = "fine-tuned on what is released" if utility.adapted else seen
    name = f"  Recognizer {_safe(utility.recognizer)} ({seen}): "
    if utility.accuracy.value is None:
        return [f"{name}not measured: {_safe(utility.accuracy.reason)}"]
    return [
        f"{name}accuracy {_percent(utility.accuracy)} with the threshold re-fitted, "
        f"{_percent(utility.accuracy_frozen)} with the clear threshold kept, "
        f"{_percent(utility.clear_accuracy)} on clear images; "
        f"AUC {_words(utility.auc, 3)}, EER {_percent(utility.eer)}."
    ]


def _explain_record(record: Record) -> list[str]:
    what = f"attack {record.attack.label}" if record.attack else record.cell
    recognizer = f", recognizer {record.recognizer.label}" if record.recognizer else ""
    lines = [
        f"[bold]{_safe(record.defense.label)}[/bold], {_safe(what)}{_safe(recognizer)}: {record.status}",
        f"  [dim]record {_safe(path_of(record), 600)}[/dim]",
        f"  Suite {_safe(record.suite)}, data set {_safe(record.dataset.label)} revision "
        f"{_safe(record.dataset_revision, 12)}, seed {record.seed}.",
    ]
    if record.measures:
        lines.append(
            f"  Measures {record.measures}; the attacker is {_safe(record.knowledge or 'of unstated knowledge')}."
        )
    if record.reason:
        lines.append(f"  [yellow]{record.status}[/yellow]: {_safe(record.reason, 2000)}")
    for name, metric in sorted(record.metrics.items()):
        if name.endswith(("_blind", "_ceiling")) and name.rpartition("_")[0] in record.metrics:
            continue
        lines.append(f"  {_safe(name)}: {_metric(metric)}{_ends(record, name)}")
    for flag in record.flags:
        lines.append(f"  [yellow]Flag {_safe(flag)}[/yellow]: see docs/flags.md.")
    place = record.environment
    lines.append(
        f"  Made by ppfr-bench {_safe(place.ppfr_bench)} (commit {_safe(place.commit or 'unknown', 12)}) on "
        f"{_safe(place.processor)}, {place.threads} threads, in {text.duration(record.cost.seconds)}."
    )
    return lines


def _metric(metric: MetricValue) -> str:
    if metric.value is None:
        return f"not measured: {_safe(metric.reason)}"
    interval = f", 95% interval {text.interval(metric.interval, 4)}" if metric.interval else ""
    unit = f" {_safe(metric.unit)}" if metric.unit else ""
    return f"{text.number(metric.value, 4)}{unit}{interval}, n {metric.n}, {metric.direction.replace('_', ' ')}"


def _ends(record: Record, name: str) -> str:
    """Floor and ceiling of an attack's figure, where the record holds them."""
    blind, ceiling = (record.metrics.get(f"{name}_{end}") for end in ("blind", "ceiling"))
    if blind is None and ceiling is None:
        return ""
    floor = text.number(blind.value if blind else None, 4)
    return (
        f"; floor (without looking) {floor}, ceiling (no defense) {text.number(ceiling.value if ceiling else None, 4)}"
    )


def _between(scale: Scale) -> str:
    if scale.figure.value is None:
        return f"not measured ({_safe(scale.figure.reason)})"
    return (
        f"{text.number(scale.figure.value, 3)}, between floor {text.number(scale.blind, 3)} (mean face) and ceiling "
        f"{text.number(scale.ceiling, 3)} (same attack, no defense)"
    )


def _words(figure: Figure, digits: int = 2) -> str:
    if figure.value is None:
        return f"not measured ({_safe(figure.reason)})"
    interval = f" (95% interval {text.interval(figure.interval, digits)})" if figure.interval else ""
    reservation = f" {_safe(figure.reason)}" if figure.reason else ""
    return f"{text.number(figure.value, digits)}{interval}{reservation}"


def _percent(figure: Figure) -> str:
    return "not measured" if figure.value is None else f"{text.percent(figure.value)} %"


def _safe(value: object, longest: int = text.LONGEST) -> str:
    """Text of a record that neither the terminal nor rich takes for a command."""
    return escape(text.plain(value, longest))
