"""Publish the pages of a suite: each is made by one small publisher, in order, and written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import html
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.entries import AttackPages, CoveragePage, DefensePages
from ppfr_bench.leaderboard.figures import ParetoPlot, ReleasesPlot, SettingsPlot, TrainingPlot
from ppfr_bench.leaderboard.html import HtmlPage, SuiteLink
from ppfr_bench.leaderboard.markdown import CsvFile, MarkdownPage, ParquetFile
from ppfr_bench.leaderboard.samples import SampleGrid
from ppfr_bench.results import ResultStore, write_atomic

__all__ = ["PUBLISHERS", "Publisher", "publish"]


class Publisher(Protocol):
    """Makes files of a suite's folder from its board: all that match its name, as far as there is something to say."""

    @property
    def name(self) -> str: ...
    @property
    def order(self) -> int: ...
    def publish(self, board: Board) -> dict[str, bytes]: ...


PUBLISHERS: tuple[Publisher, ...] = (
    ParetoPlot(), SettingsPlot(), ReleasesPlot(), TrainingPlot(), SampleGrid(), MarkdownPage(), CsvFile(),
    ParquetFile(), HtmlPage(), DefensePages(), AttackPages(), CoveragePage(),
)  # fmt: skip


def publish(records_root: Path, suite: str, out: Path) -> list[Path]:
    """Write ``<out>/<suite>/`` and ``<out>/index.html`` from the records of a suite; the paths, in order.

    A file that these records have nothing for is removed, so that no page of older records stays behind.

    Raises:
        UserError: no results there, a record that cannot be read, or a folder that cannot be written.
    """
    if Path(suite).name != suite or suite.startswith("."):
        raise UserError(f"'{suite}' is not the name of a suite", "Name a folder of the results, such as quick.")
    store = ResultStore(records_root)
    board = Board(suite, tuple(store.records(suite)), Path(records_root))
    folder = Path(out) / suite
    written: list[Path] = []
    for publisher in sorted(PUBLISHERS, key=lambda one: one.order):
        files = {folder / path: content for path, content in publisher.publish(board).items()}
        for path, content in files.items():
            write_atomic(path, content)
        for path in set(folder.glob(publisher.name)) - set(files):
            path.unlink()
        written += files
    index = Path(out) / "index.html"
    write_atomic(index, html.index(_suites(Path(out), board, store)))
    return [*written, index]


def _suites(out: Path, board: Board, store: ResultStore) -> list[SuiteLink]:
    """The suites that have a page in the folder, with what their records say where they are here."""
    links = []
    for page in sorted(out.glob("*/leaderboard.html")):
        name = page.parent.name
        if name == board.suite:
            known = board
        elif (store.root / name).is_dir():
            known = Board(name, tuple(store.records(name)), store.root)
        else:
            known = Board(name, (), store.root)
        lines = tuple(_line(known))
        links.append(SuiteLink(name, lines, (page.parent / "pareto.svg").is_file()))
    return links


def _line(board: Board) -> list[str]:
    lines = []
    for section in board.sections:
        ranked = [row for row in section.rows if row.rank is not None]
        lines.append(f"{section.dataset}, {section.track} track: {len(section.rows)} defenses, {len(ranked)} ranked.")
        first = [row.defense for row in ranked if row.rank == 1]
        if first:
            lines.append(f"First: {', '.join(first)}.")
    return lines
