"""``faces*.jpg``: synthetic faces at the head of a suite's page; and the strip at the head of a defense's page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.samples import FACE, Strips, best_of, clear_of, faces_of, strips_of
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.leaderboard.verdict import full_title
from ppfr_bench.records.record import Record

SHOWN_ROWS = 5  # At most so many defenses stand beside the original.
PEOPLE = 2  # Of a defense: so many people, one below the other.
FLAT = 48  # Tones of 256: a face that spans fewer is stretched, and the caption says so.
GAP = 4
SPACE = (128, 132, 140)  # Between faces: neither white nor black, for light and dark pages.


@dataclass(frozen=True)
class FaceStrip:
    """Columns of faces in one picture, and what stands below them.

    Attributes:
        file: its name in the folder of the page.
        columns: of each, the caption and its faces from top to bottom; none where nothing was recorded.
        said: below the picture.
        numbers: of the rows of the columns in their table, 0 for none; empty where no column is of a row.
    """

    file: str
    columns: tuple[tuple[str, tuple[Image.Image, ...]], ...]
    said: str
    numbers: tuple[int, ...] = ()

    @property
    def captions(self) -> list[tuple[int, str]]:
        """From left to right: the number of the row in the table, 0 where there is none, and what the faces are."""
        titles = [caption for caption, _ in self.columns]
        return list(zip(self.numbers or (0,) * len(titles), titles, strict=True))

    @property
    def lines(self) -> int:
        """Faces of a column."""
        return max(len(faces) for _, faces in self.columns)

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
        columns = "; ".join(caption for caption, _ in self.columns)
        return f"Computer-generated faces, from left to right: {columns}. {self.said}"

    def jpeg(self) -> bytes:
        """The picture: the same faces give the same bytes."""
        image = Image.new("RGB", (self.width, self.height), SPACE)
        for column, (_, faces) in enumerate(self.columns):
            for line, face in enumerate(faces):
                image.paste(face, (column * (FACE + GAP), line * (FACE + GAP)))
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
    columns: list[tuple[str, tuple[Image.Image, ...]]] = []
    numbers = [0]
    for row in section.rows:
        released = _first(board, strips.get((row.defense, _looking(row))))
        rebuilt = _first(board, strips.get((row.defense, best_of(row))))
        if row.control or not released or not rebuilt or len(columns) == SHOWN_ROWS:
            continue
        faces, stretched = _stretched((released[0], rebuilt[0]))
        title = full_title(row, section) + (" (contrast stretched)" if stretched else "")
        columns.append((title, faces))
        numbers.append(section.number(row))
    if not columns or not original:
        return None
    said = "Upper line: as released. Lower line: as the strongest attack rebuilds it. First: the original."
    name = "faces.jpg" if at == 0 else f"faces_{at + 1}.jpg"
    return FaceStrip(name, (("original", (original[0], original[0])), *columns), said, tuple(numbers))


def defense_strip(board: Board, section: Section, row: Row) -> FaceStrip | None:
    """The original, what a defense releases, and what attacks rebuild from one release and from several."""
    if section.real_people:
        return None
    strips = strips_of(board, section)
    original = faces_of(board, clear_of(board, section, strips), FACE)[:PEOPLE]
    released = faces_of(board, strips.get((row.defense, _looking(row))), FACE)[:PEOPLE]
    found = [("original", original), ("released", released)]
    for shots, cell in _rebuilding(row, strips):
        caption = f"rebuilt from {shots} release{'s' if shots > 1 else ''}, by {cell.attack}"
        found.append((caption, faces_of(board, strips[row.defense, cell.attack], FACE)[:PEOPLE]))
    columns = []
    for caption, faces in found:
        shown, stretched = _stretched(faces)
        columns.append((caption + (" (contrast stretched)" if stretched else ""), shown))
    columns = [(caption, faces) for caption, faces in columns if faces]
    if len(columns) < 2:
        return None
    return FaceStrip(f"{row.defense}.{section.dataset}.faces.jpg", tuple(columns), "All faces are computer-generated.")


def _rebuilding(row: Row, strips: Strips) -> list[tuple[int, Cell]]:
    """For each number of releases held, the attack with faces that regains most."""
    best: dict[int, Cell] = {}
    for cell in row.cells:
        if cell.faces == "rebuilt" and cell.state == "ok" and (row.defense, cell.attack) in strips:
            before = best.get(cell.shots)
            if before is None or (cell.worst.value or 0.0) > (before.worst.value or 0.0):
                best[cell.shots] = cell
    return sorted(best.items())


def _looking(row: Row) -> str:
    return next((cell.attack for cell in row.cells if cell.faces == "released"), "")


def _first(board: Board, record: Record | None) -> list[Image.Image]:
    return faces_of(board, record, FACE)[:1]


def _stretched(faces: Sequence[Image.Image]) -> tuple[tuple[Image.Image, ...], bool]:
    """The faces, those that are nearly flat with their tones stretched; and whether one was."""
    found, changed = [], False
    for face in faces:
        tones = np.asarray(face.convert("L"), dtype=np.int64)
        flat = 0 < int(tones.max() - tones.min()) < FLAT
        changed |= flat
        found.append(ImageOps.autocontrast(face) if flat else face)
    return tuple(found), changed


PUBLISHER = SuiteFaces
