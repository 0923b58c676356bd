"""Draw ``docs/faces.webp``: synthetic faces, what is released of them, and what attackers rebuild.

    python studies/face_picture.py

The faces are those that the published records of ``quick`` keep; nobody real is on them. Of each number of releases
that some attack of the suite uses there is a column: what regains most with so many releases at most.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.pages import load_board
from ppfr_bench.leaderboard.publishers._samples import FACE, Strips, clear_of, faces_of, strips_of
from ppfr_bench.leaderboard.publishers.faces import RELEASES, released_of, strongest
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "faces.webp"
SUITE = "quick"
ROWS = (
    ("gaussian_blur", "blur"), ("pixelate", "pixelation"),
    ("stochastic_anonymizer", "trained\nanonymizer,\nstrength 0.35"),
    ("stochastic_anonymizer_100", "trained\nanonymizer,\nstrength 1.0"),
    ("face_renderer", "drawn from\nembeddings"),
)  # fmt: skip
WORDS = {1: "one release", 4: "four releases"}
PERSON = 1  # Of a strip.
SHOWN, GAP, HEADING, LABEL, LETTERS = 140, 14, 66, 160, 24
INK = (120, 128, 143, 255)  # Read on white and on black.


def measured() -> tuple[Board, Section, Strips, list[Row]]:
    """The board, its table and the records with faces, and the rows that are drawn."""
    board = load_board(ResultStore(ROOT / "results"), SUITE)
    (section,) = (section for section in board.sections if section.rows)
    by_label = {row.defense: row for row in section.rows}
    return board, section, strips_of(board, section), [by_label[label] for label, _ in ROWS]


def counts() -> list[int]:
    """The numbers of releases of which there is a column."""
    _, _, strips, rows = measured()
    used = {cell.shots for row in rows for cell in row.cells if cell.faces == "rebuilt" and cell.key in strips}
    return [count for count in RELEASES if count in used]


def draw() -> Image.Image:
    """RGBA without a ground: a line a defense, a column what is seen of it."""
    board, section, strips, rows = measured()
    many = counts()
    headings = ["the face", "what is\nreleased"]
    headings += [f"rebuilt from\n{WORDS.get(count, f'{count} releases')}" for count in many]
    size = (LABEL + len(headings) * (SHOWN + GAP) - GAP, HEADING + len(ROWS) * (SHOWN + GAP) - GAP)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=LETTERS)
    for column, heading in enumerate(headings):
        left = LABEL + column * (SHOWN + GAP)
        pen.multiline_text((left, HEADING - 6), heading, INK, font, anchor="ld", spacing=2)
    for line, (row, (_, title)) in enumerate(zip(rows, ROWS, strict=True)):
        top = HEADING + line * (SHOWN + GAP)
        cells = [strongest(row, strips, count) for count in many]
        shown = [clear_of(board, section, strips), released_of(row, strips)]
        shown += [strips[cell.key] if cell is not None else None for cell in cells]
        for column, record in enumerate(shown):
            picture.paste(_face(board, record), (LABEL + column * (SHOWN + GAP), top))
        pen.multiline_text((0, top + SHOWN // 2), title, INK, font, anchor="lm", spacing=2)
    return picture


def _face(board: Board, record: Record | None) -> Image.Image:
    faces = faces_of(board, record, FACE)
    assert len(faces) > PERSON, f"{record and record.key} has lost its faces"
    return faces[PERSON].resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    draw().save(PICTURE, "WEBP", quality=88, method=6)
