"""``faces*.jpg``: synthetic faces at the head of a suite's page; and the strip at the head of a defense's page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from PIL import Image, ImageDraw

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers._samples import (
    FACE,
    Strips,
    clear_of,
    faces_of,
    font,
    seen,
    stretched,
    strips_of,
)
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.leaderboard.text import listed, number
from ppfr_bench.leaderboard.verdict import full_title
from ppfr_bench.records.record import Record

RELEASES = (1, 4, 16, 64)  # Pages show, or say why not, what is rebuilt from so many releases of a photo.
SHOWN_ROWS = 5  # At most so many defenses stand beside the original.
PEOPLE = 2  # Of a defense: so many people, one below the other.
GAP = 4
SPACE, LETTERS = (128, 132, 140), (0, 0, 0)  # Between faces: neither white nor black, for light and dark pages.
GENERATED = "All faces are computer-generated."


class Column(NamedTuple):
    """Faces below each other: what they are, in few words, and what an alt text says of them beside that."""

    caption: str
    faces: tuple[Image.Image, ...]
    told: str = ""


@dataclass(frozen=True)
class FaceStrip:
    """Columns of faces in one picture, and what stands below them.

    Attributes:
        file: its name in the folder of the page.
        columns: from left to right; one without faces where nothing was recorded.
        said: below the picture.
        numbers: of the rows of the columns in their table, 0 for none; empty where no column is of a row.
    """

    file: str
    columns: tuple[Column, ...]
    said: str
    numbers: tuple[int, ...] = ()

    @property
    def captions(self) -> list[tuple[int, str]]:
        """From left to right: the number of the row in the table, 0 where there is none, and what the faces are."""
        titles = [column.caption for column in self.columns]
        return list(zip(self.numbers or (0,) * len(titles), titles, strict=True))

    @property
    def lines(self) -> int:
        """Faces of a column."""
        return max(len(column.faces) for column in self.columns)

    @property
    def width(self) -> int:
        """Pixels."""
        return len(self.columns) * (FACE + GAP) - GAP

    @property
    def height(self) -> int:
        """Pixels."""
        return self.lines * (FACE + GAP) - GAP

    @property
    def alt(self) -> str:
        """For who does not see it."""
        columns = "; ".join(" ".join(filter(None, (column.caption, column.told))) for column in self.columns)
        return f"Computer-generated faces, from left to right: {columns}. {self.said}"

    def jpeg(self) -> bytes:
        """The picture: the same faces give the same bytes."""
        image = Image.new("RGB", (self.width, self.height), SPACE)
        for at, column in enumerate(self.columns):
            for line, face in enumerate(column.faces):
                image.paste(face, (at * (FACE + GAP), line * (FACE + GAP)))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85, optimize=True)
        return buffer.getvalue()


class SuiteFaces(Publisher):
    """Never of a data set of real people."""

    name = "faces*.jpg"
    order = 21

    def publish(self, board: Board) -> dict[str, bytes]:
        """JPEG, one a table that has faces which may be shown."""
        return {strip.file: strip.jpeg() for strip in suite_strips(board) if strip is not None}


def suite_strips(board: Board) -> list[FaceStrip | None]:
    """For each table: the original, and what its first defenses release and attacks rebuild; None without faces."""
    return [_suite_strip(board, section, at) for at, section in enumerate(board.sections)]


def _suite_strip(board: Board, section: Section, at: int) -> FaceStrip | None:
    if section.real_people or not section.rows:
        return None
    strips = strips_of(board, section)
    original = _first(board, clear_of(board, section, strips))
    chosen: list[tuple[Row, list[Image.Image]]] = []
    for row in section.rows:
        released = _first(board, released_of(row, strips))
        if not row.control and released and strongest(row, strips) and len(chosen) < SHOWN_ROWS:
            chosen.append((row, released))
    if not chosen or not original:
        return None
    used = {cell.shots for row, _ in chosen for cell in seen(row, strips) if cell.faces == "rebuilt"}
    counts = [count for count in _counts(board, section) if count in used]
    columns = [Column("original", (original[0], *(_sign(f"rebuilt\nfrom {count}") for count in counts)))]
    for row, released in chosen:
        cells = [(count, cell) for count in counts if (cell := strongest(row, strips, count))]
        faces, changed = stretched(
            [*released, *(face for _, cell in cells for face in _first(board, strips[cell.key]))]
        )
        title = full_title(row, section) + (" (contrast stretched)" if changed else "")
        leaks = listed([f"{number(cell.worst.value)} from {count}" for count, cell in cells if cell.leakage])
        columns.append(Column(title, faces, f"(leakage {leaks})" if leaks else ""))
    many = "1 release" if counts == [1] else f"at most {listed(counts)} releases of one photo"
    said = f"From the top: as released; as the strongest attack rebuilds it from {many}. {GENERATED}"
    absent = [count for count in RELEASES if count not in counts]
    if absent:
        said += f" Nothing is rebuilt from {listed(absent)} releases in this suite."
    name = "faces.jpg" if at == 0 else f"faces_{at + 1}.jpg"
    return FaceStrip(name, tuple(columns), said, (0, *(section.number(row) for row, _ in chosen)))


def first_strip(board: Board) -> tuple[FaceStrip, str] | None:
    """Of the first ranked row that has faces: the strip of its page, and its title; None where there is none."""
    for section in board.sections:
        for row in section.rows:
            if row.rank is not None and (strip := release_strip(board, section, row)):
                return strip, full_title(row, section)
    return None


def release_strip(board: Board, section: Section, row: Row) -> FaceStrip | None:
    """The original, what a defense releases, and what attacks rebuild from one release and from several."""
    if section.real_people:
        return None
    strips = strips_of(board, section)
    columns = [
        _column("original", faces_of(board, clear_of(board, section, strips), FACE)),
        _column("released", faces_of(board, released_of(row, strips), FACE)),
    ]
    rebuilt = rebuilding(board, section, row, strips)
    for count, cell in rebuilt:
        title = f"from {count} release{'s' if count > 1 else ''}"
        title += f": leakage {number(cell.worst.value)}" if cell.leakage else ""
        columns.append(_column(title, faces_of(board, strips[cell.key], FACE)))
    columns = [column for column in columns if column.faces]
    if len(columns) < 2:
        return None
    by = "; ".join(f"{board.attack_titles[cell.attack]} (from {count})" for count, cell in rebuilt)
    said = " ".join(filter(None, [
        f"Rebuilt by the attack that recovers most: {by}." if by else "Nothing was rebuilt.",
        *_why_not(board, section, row, strips, [count for count, _ in rebuilt]), GENERATED,
    ]))  # fmt: skip
    return FaceStrip(f"{row.defense}.{section.dataset}.faces.jpg", tuple(columns), said)


def strongest(row: Row, strips: Strips, most: float = inf) -> Cell | None:
    """Of the attacks with faces that hold at most so many releases of a photo, the one that recovers most."""
    there = [
        cell for cell in seen(row, strips) if cell.faces == "rebuilt" and cell.state == "ok" and cell.shots <= most
    ]
    return min(there, key=lambda cell: (cell.order, cell.shots, cell.title), default=None)


def rebuilding(board: Board, section: Section, row: Row, strips: Strips) -> list[tuple[int, Cell]]:
    """The numbers of releases from which more is rebuilt than from fewer, each with what rebuilds most of them."""
    found: list[tuple[int, Cell]] = []
    for count in _counts(board, section):
        cell = strongest(row, strips, count)
        if cell is not None and cell not in [one for _, one in found]:
            found.append((count, cell))
    return found


def _counts(board: Board, section: Section) -> list[int]:
    """Numbers of releases: those that pages tell of, and those that attacks of the table want."""
    attacks = board.plan.tables[section.dataset].attacks.values()
    return sorted({*RELEASES, *(attack.shots for attack in attacks if attack.faces == "rebuilt")})


def _why_not(board: Board, section: Section, row: Row, strips: Strips, shown: Sequence[int]) -> list[str]:
    """A sentence for each reason for which nothing is shown of some numbers of releases."""
    attacks = board.plan.tables[section.dataset].attacks
    why: dict[str, list[int]] = {}
    for count in _counts(board, section):
        if count in shown:
            continue
        cells = [
            cell for cell in row.cells if cell.faces == "rebuilt" and attacks[cell.attack].shots == count
            and cell.state != "missing"
        ]  # fmt: skip
        if not cells:
            reason = "not measured in this suite"
        elif all(cell.state == "ok" and cell.shots < count for cell in cells):
            reason = "no more than one, as every release of a photo is the same"
        elif any(cell.state == "ok" and cell.key in strips for cell in cells):
            reason = "no attack recovers more"
        else:
            reason = "no faces were recorded"
        why.setdefault(reason, []).append(count)
    return [f"{listed(counts)} release{'s' if counts != [1] else ''}: {reason}." for reason, counts in why.items()]


def _column(caption: str, faces: Sequence[Image.Image]) -> Column:
    shown, changed = stretched(faces[:PEOPLE])
    return Column(caption + (" (contrast stretched)" if changed else ""), shown)


def released_of(row: Row, strips: Strips) -> Record | None:
    """The record that shows what a defense releases; None where none does."""
    return next((strips[cell.key] for cell in seen(row, strips) if cell.faces == "released"), None)


def _first(board: Board, record: Record | None) -> list[Image.Image]:
    return faces_of(board, record, FACE)[:1]


def _sign(words: str) -> Image.Image:
    """A tile with words, in the place of a face."""
    tile = Image.new("RGB", (FACE, FACE), SPACE)
    ImageDraw.Draw(tile).multiline_text(
        (FACE / 2, FACE / 2), words, LETTERS, font(24), anchor="mm", align="center", spacing=6
    )
    return tile


PUBLISHER = SuiteFaces
