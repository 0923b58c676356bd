"""The leaderboard as Markdown, for a repository page, as CSV, for a spreadsheet, and as Parquet, for a program."""

from __future__ import annotations

import csv
import io

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.claims import Beside, Reported, beside
from ppfr_bench.leaderboard.html import leak_entry
from ppfr_bench.leaderboard.rows import Figure, Privacy, Row, Scale
from ppfr_bench.leaderboard.text import bracketed, duration, markdown, percent, ranks, speed

Table = list[list[str]]


class MarkdownPage:
    """``leaderboard.md``."""

    name = "leaderboard.md"
    order = 30

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 Markdown (GitHub's tables), every text from a record escaped."""
        parts = [f"# {markdown(board.suite)}", "Made by `ppfr-bench leaderboard`; do not edit."]
        if not board.sections:
            parts.append("There are no records of this suite yet.")
        for section in board.sections:
            parts += _section(section)
        parts.append(
            "Brackets hold 95% intervals over identities. Retention: share of the clear accuracy above chance that is "
            "left, mean over unseen recognizers; of a representation, to one fine-tuned on it. Appearance privacy: 1 - "
            "the largest leakage over attacks and image measures. Score: their harmonic mean. A control, and a row "
            "with a cell that gave no number, has no rank. "
            "More in `docs/metrics.md`."
        )
        return {self.name: ("\n\n".join(parts) + "\n").encode()}


def _section(section: Section) -> list[str]:
    parts = [f"## {markdown(section.dataset)}, {markdown(section.track)} track"]
    for canary in section.moved:
        parts.append(
            f"**The canary moved:** {markdown(canary.recognizer)} measures {percent(canary.accuracy.value)} % on clear "
            f"images, {percent(canary.expected)} % is expected."
        )
    if section.rows:
        parts.append(_table(_main(section)))
        if section.attacks:
            parts += ["### Leakage by attack", _table(_leakage(section))]
        if found := beside(section.rows):
            parts += ["### Reported by authors, measured here, best attack known", _table(_published(found))]
        if section.dials:
            parts += ["### Along one parameter", _table(_dials(section))]
        if section.shots:
            parts += ["### Privacy against the number of releases held", _table(_shots(section))]
        if section.longest:
            parts += [f"### What training bought: {markdown(section.longest)}", _table(_training(section))]
        if section.controls:
            parts += ["### Controls beside the best reconstruction (LPIPS, SSIM)", _table(_controls(section))]
    gaps = [
        [markdown(row.defense), markdown(cell.title), cell.state, markdown(cell.reason)]
        for row in section.rows
        for cell in row.gaps
    ]
    if gaps:
        parts += ["### Not measured", _table([["defense", "cell", "state", "reason"], *gaps])]
    if section.canaries:
        parts += ["### Canaries (clear against clear)", _table(_canaries(section))]
    return parts


def _main(section: Section) -> Table:
    used = [f"{markdown(label)} %{f' ({mark})' if mark else ''}" for label, mark in section.recognizers]
    head = [
        "rank", "defense", "score", "retention", "appearance privacy", "set by", "identity privacy", "set by", *used,
        "best reconstruction", "LPIPS (floor, ceiling)", "SSIM (floor, ceiling)", "images/s", "time", "flags",
    ]  # fmt: skip
    rows = [head]
    for row in section.rows:
        accuracy = {utility.recognizer: utility.accuracy for utility in row.utilities}
        rebuilt = row.reconstruction
        rows.append([
            ranks(row.rank, row.rank_interval), _name(row), bracketed(row.score), _retention(row),
            _privacy(row.appearance), markdown(row.appearance.set_by), _privacy(row.identity),
            markdown(row.identity.set_by), *(percent(accuracy[label].value) for label, _ in section.recognizers),
            markdown(rebuilt.attack) if rebuilt else text.MISSING, _scale(rebuilt.lpips if rebuilt else None),
            _scale(rebuilt.ssim if rebuilt else None), speed(row.images_per_second), duration(row.seconds),
            ", ".join(markdown(flag) for flag, _ in row.flags),
        ])  # fmt: skip
    return rows


def _name(row: Row) -> str:
    marks = [mark for mark, holds in (("control", row.control), ("front", row.front)) if holds]
    marks += [] if row.complete else [row.completeness]
    marks += [markdown(row.setting)] if row.setting else []
    marks += [row.promise] if row.promise else []
    name = markdown(row.defense)
    return f"{name} ({', '.join(marks)})" if marks else name


def _retention(row: Row) -> str:
    if row.black_box is None:
        return bracketed(row.retention)
    return f"{bracketed(row.retention)}; black box {text.number(row.black_box.value)}"


def _privacy(privacy: Privacy) -> str:
    return bracketed(privacy.figure) if privacy.bound is None else f"at most {text.number(privacy.bound)}"


def _scale(scale: Scale | None) -> str:
    if scale is None or scale.figure.value is None:
        return text.MISSING
    floor, ceiling = text.number(scale.blind, 3), text.number(scale.ceiling, 3)
    return f"{text.number(scale.figure.value, 3)} ({floor}, {ceiling})"


def _leakage(section: Section) -> Table:
    rows = [["defense", *(f"{markdown(attack)} ({markdown(measures)})" for attack, measures in section.attacks)]]
    for row in section.rows:
        entries = [leak_entry(row, attack) for attack, _ in section.attacks]
        rows.append(
            [markdown(row.defense)]
            + [bracketed(entry.figure) if entry.figure.value is not None else entry.state for entry in entries]
        )
    return rows


def _published(found: list[Beside]) -> Table:
    rows = [
        ["defense", "accuracy %, reported", "here", "SSIM, reported", "here", "identity leakage, here", "elsewhere"]
    ]
    for one in found:
        rebuilt, worst = one.row.reconstruction, one.worst
        rows.append([
            markdown(one.row.defense), _reported(one.published.accuracy), percent(one.accuracy.value),
            _reported(one.published.ssim), _scale(rebuilt.ssim if rebuilt else None),
            f"{bracketed(worst.worst)}, {markdown(worst.title)}" if worst else text.MISSING,
            _reported(one.published.attack),
        ])  # fmt: skip
    return rows


def _reported(found: Reported | None) -> str:
    return markdown(f"{found.figure} ({found.of}; {found.source})") if found else text.MISSING


def _dials(section: Section) -> Table:
    rows = [["defense", "parameter", "value", "label", "retention", "appearance privacy", "identity privacy"]]
    for dial in section.dials:
        for row in dial.rows:
            name, key, value = (markdown(words) for words in (dial.name, dial.key, dial.value(row)))
            key += f" ({markdown(dial.others)})" if dial.others else ""
            rows.append([
                name, key, value, markdown(row.defense), bracketed(row.retention), bracketed(row.appearance.figure),
                bracketed(row.identity.figure),
            ])  # fmt: skip
    return rows


def _shots(section: Section) -> Table:
    head = [f"{measures}, {count}" for measures in ("appearance", "identity") for count in section.shots]
    rows = [["defense", *head]]
    for row in section.rows:
        found = [figure for measures in ("appearance", "identity") for figure in section.against(row, measures)]
        rows.append([markdown(row.defense), *(bracketed(figure) for figure in found)])
    return rows


def _training(section: Section) -> Table:
    rows = [["defense", "steps", "allowed", "error of the first answer", "of the best", "best over first"]]
    for row, training in section.trainings:
        errors = [error for _, error in training.curve]
        rows.append([
            markdown(row.defense), str(training.steps), str(training.allowed), text.number(errors[0], 4),
            text.number(min(errors), 4), text.number(training.error[-1][1], 3),
        ])  # fmt: skip
    return rows


def _controls(section: Section) -> Table:
    rows = [["defense", "floor", *map(markdown, section.controls), "best reconstruction"]]
    for row in section.rows:
        if row.reconstruction is None:
            continue
        by_name = {control.attack: control for control in row.controls}
        ends = [(row.reconstruction.lpips.blind, row.reconstruction.ssim.blind)]
        ends += [
            (control.lpips.value, control.ssim.value) if control else (None, None)
            for control in (by_name.get(name) for name in section.controls)
        ]
        ends.append((row.reconstruction.lpips.figure.value, row.reconstruction.ssim.figure.value))
        rows.append([markdown(row.defense), *(f"{text.number(a, 3)}, {text.number(b, 3)}" for a, b in ends)])
    return rows


def _canaries(section: Section) -> Table:
    rows = [["recognizer", "accuracy %", "expected %", "state"]]
    for canary in section.canaries:
        state = "moved" if canary.moved else canary.status
        if canary.reason:
            state = f"{state}: {markdown(canary.reason)}"
        rows.append([markdown(canary.recognizer), percent(canary.accuracy.value), percent(canary.expected), state])
    return rows


def _table(rows: Table) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class CsvFile:
    """``leaderboard.csv``: one line a defense and table, six significant digits; empty is not measured."""

    name = "leaderboard.csv"
    order = 40

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 CSV; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
        lines = _csv_lines(board)
        buffer = io.StringIO()
        head = list(lines[0]) if lines else ["suite", "dataset", "track", "defense", "rank"]
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([text.csv_text(name) for name in head])
        writer.writerows([list(line.values()) for line in lines])
        return {self.name: buffer.getvalue().encode()}


class ParquetFile:
    """``leaderboard.parquet``: what the CSV holds, numbers as numbers, missing ones null."""

    name = "leaderboard.parquet"
    order = 41

    def publish(self, board: Board) -> dict[str, bytes]:
        """Parquet, one row a defense and table; nothing without rows."""
        import pandas as pd

        lines = _csv_lines(board)
        if not lines:
            return {}
        table = pd.DataFrame(lines)
        for name in table.columns:
            if name in ("control", "front"):
                table[name] = table[name] == "true"
            elif name not in TEXTS and not name.endswith("_set_by"):
                table[name] = pd.to_numeric(table[name].replace("", None))
        return {self.name: table.to_parquet(index=False)}


TEXTS = (
    "suite", "dataset", "track", "defense", "unranked", "guarantee", "best_reconstruction", "flags", "not_measured",
)  # fmt: skip


def _csv_lines(board: Board) -> list[dict[str, str]]:
    recognizers = sorted({utility.recognizer for row in board.rows for utility in row.utilities})
    attacks = sorted({cell.attack for row in board.rows for cell in row.cells if cell.attack})
    return [_csv_line(row, recognizers, attacks) for row in board.rows]


def _csv_line(row: Row, recognizers: list[str], attacks: list[str]) -> dict[str, str]:
    line = {
        "suite": text.csv_text(row.suite), "dataset": text.csv_text(row.dataset), "track": text.csv_text(row.track),
        "defense": text.csv_text(row.defense), "rank": "" if row.rank is None else str(row.rank),
        "rank_low": str(row.rank_interval[0]) if row.rank_interval else "",
        "rank_high": str(row.rank_interval[1]) if row.rank_interval else "",
        "control": str(row.control).lower(), "front": str(row.front).lower(),
        "measured": str(row.measured), "expected": str(row.expected), "unranked": text.csv_text(row.unranked),
        "guarantee": text.csv_text(row.promise),
    }  # fmt: skip
    line |= _csv_figure("score", row.score) | _csv_figure("retention", row.retention)
    line |= _csv_figure("black_box_retention", row.black_box or Figure(None))
    for name, privacy in (("appearance_privacy", row.appearance), ("identity_privacy", row.identity)):
        line |= _csv_figure(name, privacy.figure) | {f"{name}_set_by": text.csv_text(privacy.set_by)}
    used = {utility.recognizer: utility for utility in row.utilities}
    for label in recognizers:
        utility = used.get(label)
        missing = Figure(None, reason="not in this table")
        line |= _csv_figure(f"accuracy_{label}", utility.accuracy if utility else missing)
        line[f"accuracy_frozen_{label}"] = _digits(utility.accuracy_frozen.value if utility else None)
    rebuilt = row.reconstruction
    line["best_reconstruction"] = text.csv_text(rebuilt.attack) if rebuilt else ""
    for name, scale in (("lpips", rebuilt and rebuilt.lpips), ("ssim", rebuilt and rebuilt.ssim)):
        line[name] = _digits(scale.figure.value if scale else None)
        line[f"{name}_floor"] = _digits(scale.blind if scale else None)
        line[f"{name}_ceiling"] = _digits(scale.ceiling if scale else None)
    ran = {cell.attack for cell in row.cells}
    for attack in attacks:
        line[f"leakage_{attack}"] = _digits(leak_entry(row, attack).figure.value if attack in ran else None)
    line["images_per_second"] = _digits(row.images_per_second)
    line["seconds"] = _digits(row.seconds)
    line["flags"] = text.csv_text(" ".join(flag for flag, _ in row.flags))
    gaps = (f"{cell.title} {cell.state}: {cell.reason}" for cell in row.gaps)
    line["not_measured"] = text.csv_text("; ".join(gaps))
    return line


def _csv_figure(name: str, figure: Figure) -> dict[str, str]:
    low, high = figure.interval or (None, None)
    return {name: _digits(figure.value), f"{name}_low": _digits(low), f"{name}_high": _digits(high)}


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:z.6g}"
