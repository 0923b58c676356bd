"""Draw ``docs/attacks/NAME.webp``: what an attack rebuilds from what some defenses release.

    python studies/attack_pictures.py

The faces are those that the published records keep, one and the same synthetic face in a picture; nobody real is on
them. ``reference_pages.py`` puts the pictures into the catalogue of attacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.pages import load_board
from ppfr_bench.leaderboard.publishers._samples import FACE, Strips, clear_of, faces_of, seen, stretched, strips_of
from ppfr_bench.leaderboard.publishers.faces import released_of
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.leaderboard.text import number
from ppfr_bench.leaderboard.verdict import full_title
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "attacks"
SUITES = ("standard", "quick", "template_quick", "cloak_quick")  # The first that has faces of an attack is taken.
DEFENSES = (
    "gaussian_blur", "pixelate", "stochastic_local", "peep", "block_permutation", "block_permutation_per_image",
)  # fmt: skip
MOST = 6  # Defenses beside each other.
PERSON, SIDE, GAP = 1, 96, 4


@dataclass(frozen=True)
class Column:
    """What stands below each other: a face, or what is released and what is rebuilt of it; and its words."""

    words: str
    faces: tuple[Image.Image | None, ...]


@dataclass(frozen=True)
class Picture:
    """What an attack sees or rebuilds.

    Attributes:
        suite, label: where it was measured, and its entry there.
        lines: what each line of faces is.
    """

    suite: str
    label: str
    lines: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def said(self) -> str:
        """What is to be seen, in a sentence or two."""
        lines = f"Upper line: {self.lines[0]}; lower line: {self.lines[1]}." if len(self.lines) > 1 else ""
        one = f"{self.lines[0].capitalize()}." if len(self.lines) == 1 else ""
        return f"{lines or one} From left to right: {'; '.join(column.words for column in self.columns)}."

    def draw(self) -> Image.Image:
        """RGBA without a ground."""
        size = (len(self.columns) * (SIDE + GAP) - GAP, len(self.lines) * (SIDE + GAP) - GAP)
        picture = Image.new("RGBA", size, (0, 0, 0, 0))
        for at, column in enumerate(self.columns):
            for line, face in enumerate(column.faces):
                if face is not None:
                    shown = face.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                    picture.paste(shown, (at * (SIDE + GAP), line * (SIDE + GAP)))
        return picture


def pictures() -> dict[str, Picture]:
    """By the name of the attack, of all that have faces on the published boards."""
    found: dict[str, Picture] = {}
    for board, section, strips in _tables():
        labels: dict[str, str] = {}
        attacks = board.plan.tables[section.dataset].attacks
        there = {cell.attack for row in section.rows for cell in seen(row, strips)}
        # Of the entries of one attack the one with most releases.
        for label in sorted(there, key=lambda label: (attacks[label].shots, label != attacks[label].component.name)):
            labels[attacks[label].component.name] = label
        labels |= {name: name for name in labels if attacks[labels[name]].shots == 1 and name in there}
        for name, label in labels.items():
            if name not in found and (made := _picture(board, section, strips, label)):
                found[name] = made
    return dict(sorted(found.items()))


@cache
def _tables() -> list[tuple[Board, Section, Strips]]:
    boards = [load_board(ResultStore(ROOT / "results"), suite) for suite in SUITES]
    return [
        (board, section, strips_of(board, section))
        for board in boards for section in board.sections if section.rows and not section.real_people
    ]  # fmt: skip


def _picture(board: Board, section: Section, strips: Strips, label: str) -> Picture | None:
    chosen = list(_chosen(section, strips, label))
    if not chosen:
        return None
    looks = chosen[0][1].faces == "released"
    shown = [(row, cell, None if looks else _face(board, released_of(row, strips))) for row, cell in chosen]
    both = any(released is not None for _, _, released in shown)
    columns = []
    clear = _face(board, clear_of(board, section, strips))
    if clear is not None:
        columns.append(Column("the face", (clear,)))
    for row, cell, released in shown:
        (face, *_), changed = stretched([one for one in (_face(board, strips[cell.key]),) if one is not None])
        words = full_title(row, section)
        if cell.leakage:
            words += f", leakage {number(cell.worst.value)}"
        columns.append(
            Column(words + (" (contrast stretched)" if changed else ""), (released, face) if both else (face,))
        )
    lines = ("released", "rebuilt") if both else ("released",) if looks else ("rebuilt",)
    return Picture(board.suite, label, lines, tuple(columns))


def _chosen(section: Section, strips: Strips, label: str) -> Iterator[tuple[Row, Cell]]:
    """Some rows that have the faces: those that many know first, then by rank."""
    rows = [row for row in section.rows if not row.control]
    rows.sort(key=lambda row: DEFENSES.index(row.defense) if row.defense in DEFENSES else len(DEFENSES))
    found = 0
    for row in rows:
        cells = [cell for cell in seen(row, strips) if cell.attack == label]
        if cells and found < MOST:
            found += 1
            yield row, max(cells, key=lambda cell: cell.worst.value or 0.0)


def _face(board: Board, record: Record | None) -> Image.Image | None:
    return next(iter(faces_of(board, record, FACE)[PERSON:]), None)


if __name__ == "__main__":
    drawn = pictures()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.webp"):
        if path.stem not in drawn:
            path.unlink()
    for name, picture in drawn.items():
        picture.draw().save(FOLDER / f"{name}.webp", "WEBP", quality=80, method=6)
