"""Publish the pages of a suite: each is made by one small publisher, in order, and written whole."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.faces import FaceStrip, first_strip
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.verdict import full_title, row_verdict
from ppfr_bench.records.store import ResultStore

__all__ = ["load_board", "publish", "publish_all", "publishers"]

FIRST = ("quick", "standard", "lfw_quick")  # Suites of images stand first, all others follow by name.


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


def load_board(store: ResultStore, suite: str, out: Path | None = None) -> Board:
    """The board of a suite, from the records and the plan in a results folder.

    Args:
        out: where its pages will lie; without it they name no files of records.

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
    return Board(suite, records, plan, store, store.claims(suite), _beside(store, out) if out is not None else "")


def _beside(store: ResultStore, out: Path) -> str:
    """What leads from the pages of a suite to the results, where both lie in one folder; else they may be parted."""
    if not isinstance(store.root, Path):
        return ""
    root, folder = store.root.absolute(), Path(out).absolute().parent
    return posixpath.join("../..", *root.relative_to(folder).parts) if root.is_relative_to(folder) else ""


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
    links = {suite: _link(board)}
    for name in _published(out):
        if name != suite and name in store.suites() and store.plan(name) is not None:
            links[name] = _link(load_board(store, name))
    return [*written, _write_index(out, links)]


def publish_all(store: ResultStore, out: Path) -> Iterator[tuple[Board, list[Path]]]:
    """The same for every suite that has records, one after the other, each read once: its board, and the paths.

    Raises:
        UserError: as ``publish``.
    """
    links: dict[str, SuiteLink] = {}
    for suite in store.suites():
        board = load_board(store, suite, out)
        written = _write(board, out)
        links[suite] = _link(board)
        yield board, written
    _write_index(out, links)


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
    found = [page.parent.name for page in Path(out).glob("*/leaderboard.html")]
    return sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def _write_index(out: Path, known: Mapping[str, SuiteLink]) -> Path:
    """The page of all suites; of one whose records are not at hand it has a link alone."""
    page = Path(out) / "index.html"
    links = [known.get(name) or SuiteLink(name) for name in _published(out)]
    write_atomic(page, render("index.html", root="", suites=links))
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
