"""``leaderboard.csv``: one line a defense and table, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rendering import leak_entry
from ppfr_bench.leaderboard.rows import Estimate, Row

HEAD = ("suite", "dataset", "track", "defense", "rank")


class CsvFile(Publisher):
    """Six significant digits; empty is not measured."""

    name = "leaderboard.csv"
    order = 40

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 CSV; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
        lines = csv_lines(board)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([text.csv_text(name) for name in (lines[0] if lines else HEAD)])
        writer.writerows([list(line.values()) for line in lines])
        return {self.name: buffer.getvalue().encode()}


def csv_lines(board: Board) -> list[dict[str, str]]:
    """Text by column; every row has the columns of all tables."""
    recognizers = sorted({utility.recognizer for row in board.rows for utility in row.utilities})
    cells = [cell for row in board.rows for cell in row.cells if cell.attack]
    leaking = {cell.attack for cell in cells if cell.sets or cell.leakage}
    attacks = {attack: attack in leaking for attack in sorted({cell.attack for cell in cells})}
    return _filled([_line(section, row, recognizers, attacks) for section in board.sections for row in section.rows])


def _filled(lines: list[list[dict[str, str]]]) -> list[dict[str, str]]:
    """The parts of each line joined, where a part has all columns that it has in any line."""
    parts = [dict.fromkeys(name for line in lines for name in line[i]) for i in range(len(lines[0]) if lines else 0)]
    return [
        {name: line[i].get(name, "") for i, names in enumerate(parts) for name in names} for line in lines
    ]  # fmt: skip


def _line(section: Section, row: Row, recognizers: Sequence[str], attacks: Mapping[str, bool]) -> list[dict[str, str]]:
    return [
        _place(row), _numbers(section, row), _recognizers(section, row, recognizers), _likeness(section, row),
        _attacks(row, attacks), _rest(section, row),
    ]  # fmt: skip


def _place(row: Row) -> dict[str, str]:
    return {
        "suite": text.csv_text(row.suite), "dataset": text.csv_text(row.dataset), "track": text.csv_text(row.track),
        "defense": text.csv_text(row.defense), "rank": "" if row.rank is None else str(row.rank),
        "rank_low": str(row.rank_interval[0]) if row.rank_interval else "",
        "rank_high": str(row.rank_interval[1]) if row.rank_interval else "",
        "control": str(row.control).lower(), "front": str(row.front).lower(),
        "measured": str(row.measured), "expected": str(row.expected), "unranked": text.csv_text(row.unranked),
        "guarantee": text.csv_text(row.promise),
    }  # fmt: skip


def _numbers(section: Section, row: Row) -> dict[str, str]:
    line: dict[str, str] = {}
    for column in section.columns:
        shown = column.of(row)
        line |= _estimate(column.name, shown.estimate)
        if column.note:
            line[f"{column.name}_{column.note}"] = text.csv_text(shown.note)
    return line


def _recognizers(section: Section, row: Row, recognizers: Sequence[str]) -> dict[str, str]:
    line: dict[str, str] = {}
    used = {utility.recognizer: utility for utility in row.utilities}
    missing = Estimate(None, reason="not in this table")
    for label in recognizers:
        for column in section.rules.utility_columns if section.rules is not None else ():
            if column.file:
                found = used[label].estimate(column.name) if label in used else missing
                written = _estimate("_".join(filter(None, (column.name, label))), found)
                line |= written if column.file == "interval" else dict([*written.items()][:1])
    return line


def _likeness(section: Section, row: Row) -> dict[str, str]:
    rebuilt = row.reconstruction
    line = {"best_reconstruction": text.csv_text(rebuilt.attack) if rebuilt else ""}
    for name in section.likeness:
        scale = rebuilt.likeness[name] if rebuilt else None
        line[name] = _digits(scale.estimate.value if scale else None)
        line[f"{name}_floor"] = _digits(scale.floor.value if scale else None)
        line[f"{name}_ceiling"] = _digits(scale.ceiling.value if scale else None)
    return line


def _attacks(row: Row, attacks: Mapping[str, bool]) -> dict[str, str]:
    """``leakage_unet``; of an attack by which nothing leaks ``d_sys_unlinkability``, each measure by its name."""
    ran = {cell.attack for cell in row.cells}
    entries = {attack: leak_entry(row, attack) for attack in attacks if attack in ran}
    line = {
        f"leakage_{attack}": _digits(entries[attack].estimate.value if attack in entries else None)
        for attack, leaks in attacks.items()
        if leaks
    }
    others = ((attack, *one) for attack, entry in entries.items() for one in entry.others)
    return line | {f"{name}_{attack}": _digits(estimate.value) for attack, name, estimate in others}


def _rest(section: Section, row: Row) -> dict[str, str]:
    gaps = (f"{cell.title} {cell.state}: {cell.reason}" for cell in row.gaps)
    earlier = sum(cell.attack in section.changes.attacks for cell in row.cells)
    return {
        "images_per_second": _digits(row.images_per_second), "seconds": _digits(row.seconds),
        "cells_of_earlier_attacks": str(earlier),
        "flags": text.csv_text(" ".join(flag for flag, _ in row.flags)),
        "not_measured": text.csv_text("; ".join(gaps)),
    }  # fmt: skip


def _estimate(name: str, estimate: Estimate) -> dict[str, str]:
    low, high = estimate.interval or (None, None)
    return {name: _digits(estimate.value), f"{name}_low": _digits(low), f"{name}_high": _digits(high)}


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:z.6g}"


PUBLISHER = CsvFile
