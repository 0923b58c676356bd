"""``gallery/*.webp``: one and the same synthetic face, as each attack rebuilds it from what each defense releases."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers._samples import FACE, Strips, clear_of, faces_of, stretched, strips_of
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.records.record import Record

SIDE = 96  # Pixels of a face, which pages show smaller.
MOST = 24  # Attacks beside each other: the style of the pages knows so many places.
PERSON = 2  # The second of a strip, or the last of a shorter one.


class Column(NamedTuple):
    """An attack of a gallery: how many releases of the photo it wants, and whether it shows what is released."""

    label: str
    releases: int
    released: bool


@dataclass(frozen=True)
class Tile:
    """What one attack makes of the face; without a face where none was recorded.

    Attributes:
        place: in the picture of its line, from 0.
        changed: its tones were stretched, as it is nearly flat.
    """

    cell: Cell
    face: Image.Image | None = None
    place: int = 0
    changed: bool = False


@dataclass(frozen=True)
class Line:
    """A defense: the name of its picture, and a tile for each attack; None where the attack was not planned for it."""

    row: Row
    file: str
    tiles: tuple[Tile | None, ...]


@dataclass(frozen=True)
class Gallery:
    """The faces of a table: in rank order, one attack beside the other, what is released first.

    Attributes:
        original: the name of the picture of the face as it is, and that; None where it was not recorded.
    """

    attacks: tuple[Column, ...]
    lines: tuple[Line, ...]
    original: tuple[str, Image.Image] | None

    @property
    def leaking(self) -> bool:
        """Whether a number of leakage stands below some face."""
        return any(tile.cell.leakage for line in self.lines for tile in line.tiles if tile is not None)

    def pictures(self) -> dict[str, bytes]:
        """WebP by name: a line of faces each."""
        found = {self.original[0]: _webp([self.original[1]])} if self.original else {}
        for line in self.lines:
            faces = [tile.face for tile in line.tiles if tile is not None and tile.face is not None]
            found |= {line.file: _webp(faces)} if faces else {}
        return found


class GalleryPictures(Publisher):
    """Never of a data set of real people."""

    name = "gallery/*.webp"
    order = 20

    def publish(self, board: Board) -> dict[str, bytes]:
        """WebP, one a defense, and one of the face as it is."""
        return {
            name: picture for one in galleries(board) if one is not None for name, picture in one.pictures().items()
        }


def galleries(board: Board) -> list[Gallery | None]:
    """For each table what its attackers see; None where there is nothing that may be shown."""
    return [_gallery(board, section, at) for at, section in enumerate(board.sections, 1)]


def _gallery(board: Board, section: Section, at: int) -> Gallery | None:
    if section.real_people or not section.rows:
        return None
    strips = strips_of(board, section)
    planned = board.plan.tables[section.dataset].attacks
    there = {cell.attack for row in section.rows for cell in row.cells if cell.key in strips}
    columns = [Column(label, planned[label].shots, planned[label].faces == "released") for label in there]
    attacks = sorted(columns, key=lambda one: (not one.released, one.releases, one.label))[:MOST]
    lines = tuple(_line(board, section, row, attacks, strips) for row in section.rows)
    if not any(tile is not None and tile.face is not None for line in lines for tile in line.tiles):
        return None
    original = _face(board, clear_of(board, section, strips))
    place = f"gallery/original_{at}.webp"
    return Gallery(tuple(attacks), lines, (place, original) if original is not None else None)


def _line(board: Board, section: Section, row: Row, attacks: Sequence[Column], strips: Strips) -> Line:
    tiles: list[Tile | None] = []
    count = 0
    for attack in attacks:
        cells = [cell for cell in row.cells if cell.attack == attack.label]
        # Where several recognizers are asked, the one from which most is regained.
        cell = max(cells, key=lambda cell: (cell.key in strips, cell.worst.value or 0.0), default=None)
        face = _face(board, strips.get(cell.key)) if cell is not None else None
        if cell is None or face is None:
            tiles.append(Tile(cell) if cell is not None else None)
            continue
        (shown,), changed = stretched([face])
        tiles.append(Tile(cell, shown, count, changed))
        count += 1
    return Line(row, f"gallery/{row.defense}.{section.dataset}.webp", tuple(tiles))


def _face(board: Board, record: Record | None) -> Image.Image | None:
    return next(iter(faces_of(board, record, FACE)[:PERSON][::-1]), None)


def _webp(faces: Sequence[Image.Image]) -> bytes:
    """The faces side by side: the same faces give the same bytes."""
    sheet = Image.new("RGB", (len(faces) * SIDE, SIDE))
    for at, face in enumerate(faces):
        sheet.paste(face.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (at * SIDE, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=75, method=4)
    return buffer.getvalue()


PUBLISHER = GalleryPictures
