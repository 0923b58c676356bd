"""Publish the pages of a suite: each is made by one small publisher, in order, and written whole."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.leaderboard.across import across, in_order
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.faces import FaceStrip, first_strip
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.verdict import full_title, row_verdict
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

__all__ = ["load_board", "publish", "publish_all", "publishers"]


@dataclass(frozen=True)
class SuiteLink:
    """One suite of the page of all suites.

    Attributes:
        name: of its folder.
        lines: what is said of it.
        picture: whether it has a plot.
        faces: of the first of its rows that has some, with the title of that row; None where there are none.
    """

    name: str
    lines: tuple[str, ...] = ()
    picture: bool = False
    faces: tuple[FaceStrip, str] | None = None


def publishers() -> list[Publisher]:
    """All that there are, in the order in which they publish.

    Raises:
        UserError: the file of one does not load.
    """
    found: list[Publisher] = [registry.load("publisher", name)() for name in registry.names("publisher")]
    return sorted(found, key=lambda publisher: (publisher.order, publisher.name))


def load_board(
    store: ResultStore, suite: str, out: Path | None = None, loaded: Mapping[str, Board] | None = None
) -> Board:
    """The board of a suite, from the records and the plan in a results folder.

    Args:
        out: where its pages will lie; without it they name no files of records.
        loaded: boards of the same results, by suite, which it takes in place of reading them again.

    Raises:
        UserError: no results there, no plan beside them, or a record that cannot be read.
    """
    if Path(suite).name != suite or suite.startswith("."):
        raise UserError(f"'{suite}' is not the name of a suite", "Name a folder of the results, such as quick.")
    records = tuple(store.records(suite))
    plan = store.plan(suite)
    if plan is None:
        raise UserError(
            f"{store.root}/{suite} has records and no plan.json, which says which of them make its tables",
            f"It is written by  ppfr-bench run {suite} --results {store.root}   which measures nothing again.",
        )
    files = _beside(store, records, out) if out is not None else {}
    return Board(suite, records, plan, store, store.claims(suite), files, {} if loaded is None else loaded)


def _beside(store: ResultStore, records: Iterable[Record], out: Path) -> dict[str, str]:
    """By key, what leads from the pages of a suite to the file of a record, where both lie in one folder."""
    folder = Path(out).absolute().parent
    if not isinstance(store.root, Path) or not store.root.absolute().is_relative_to(folder):
        return {}  # Pages and results may be parted.
    prefix = posixpath.join("../..", *store.root.absolute().relative_to(folder).parts)
    found = {record.key: store.file_of(record) for record in records}
    there = {name for name in set(found.values()) if (store.root / name).is_file()}
    return {key: quote(f"{prefix}/{name}") for key, name in found.items() if name in there}


def publish(results: ResultStore | Path, suite: str, out: Path) -> list[Path]:
    """Write ``<out>/<suite>/`` and ``<out>/index.html`` from the records and the plan of a suite; the paths, in order.

    A file that these records have nothing for is removed, so that no page of older records stays behind.

    Args:
        results: the store of the records, or its folder.

    Raises:
        UserError: no results there, no plan beside them, a record that cannot be read, or a folder that cannot be
            written.
    """
    store = results if isinstance(results, ResultStore) else ResultStore(results)
    board = load_board(store, suite, out)
    written = _write(board, out)
    return [*written, _write_index(out, board.together)]


def publish_all(store: ResultStore, out: Path) -> Iterator[tuple[Board, list[Path]]]:
    """The same for every suite that has records, one after the other, each read once: its board, and the paths.

    Raises:
        UserError: as ``publish``.
    """
    boards: dict[str, Board] = {}
    for suite in store.suites():
        boards[suite] = load_board(store, suite, out, boards)
    for board in boards.values():
        yield board, _write(board, out)
    _write_index(out, boards)


def _write(board: Board, out: Path) -> list[Path]:
    """The pages of one board."""
    folder = Path(out) / board.suite
    written: list[Path] = []
    for publisher in publishers():
        for name, content in publisher.publish(board).items():
            write_atomic(folder / name, content)
            written.append(folder / name)
    for path in {path for publisher in publishers() for path in folder.glob(publisher.name)} - set(written):
        path.unlink()
    return written


def _published(out: Path) -> list[str]:
    """The suites that have a page in the folder, in the order of the page of all suites."""
    return in_order(page.parent.name for page in Path(out).glob("*/leaderboard.html"))


def _write_index(out: Path, boards: Mapping[str, Board]) -> Path:
    """The page of all suites; of one whose records are not at hand it has a link alone."""
    page, published = Path(out) / "index.html", _published(out)
    links = [_link(boards[name]) if name in boards else SuiteLink(name) for name in published]
    tables = across([boards[name] for name in published if name in boards])
    write_atomic(page, render("index.html", root="", suites=links, tables=tables))
    return page


def _link(board: Board) -> SuiteLink:
    """What the page of all suites says and shows of one."""
    lines = [f"{board.changes.head}."] if board.changes.head else []
    for section in board.sections:
        ranked = [row for row in section.rows if row.rank is not None]
        claimed = sum(bool(row.claim) for row in section.rows)
        more = f" Claimed by their authors: {claimed}." if claimed else ""
        more += f" {board.warning}" if board.warning else ""
        lines.append(f"{section.heading}: {section.counted}.{more}")
        lines += [f"First: {full_title(row, section)}. {row_verdict(row, section)}" for row in ranked if row.rank == 1]
    return SuiteLink(board.suite, tuple(lines), any(row.drawable for row in board.rows), first_strip(board))
