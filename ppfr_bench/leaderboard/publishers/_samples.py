"""Sample faces of records as images: synthetic people alone; and the sheet of one defense."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.rows import Cell, Row
from ppfr_bench.leaderboard.seeds import published
from ppfr_bench.leaderboard.text import plain
from ppfr_bench.records.record import Record

FACE = 112  # A face in a strip has so many pixels a side.
SHOWN = 84
FACES = 3
FLAT = 48  # Tones of 256: a face of which 98% of all values span fewer is stretched, and the page says so.
MOST = 16  # No more than so many times: differences of one tone are noise of JPEG.
GAP = 3
MARGIN = 16
LABEL = 196
LARGEST = 8 * 1024 * 1024  # Bytes of a strip.
PAGE, INK, EMPTY = "#20242c", "#d8dce4", "#333944"  # A JPEG is never transparent: a dark panel suits both pages.

Line = tuple[str, str, list[Image.Image]]  # Label, small print, faces.
Strips = dict[str, Record]  # By the key of the record.


def defense_grid(board: Board, label: str) -> bytes:
    """JPEG of synthetic faces as they are, as released by a defense, and as each attack rebuilds them; or nothing."""
    lines: list[Line] = []
    for section in board.sections:
        row = next((row for row in section.rows if row.defense == label), None)
        if section.real_people or row is None:
            continue
        strips = strips_of(board, section)
        lines.append(("original", section.dataset, faces_of(board, clear_of(board, section, strips))))
        for cell in sorted(seen(row, strips), key=lambda cell: (cell.faces != "released", cell.attack)):
            note = "as released" if cell.faces == "released" else f"rebuilt {cell.recognizer}".strip()
            lines.append((cell.attack, note, faces_of(board, strips[cell.key])))
    if not any(faces for _, _, faces in lines[1:]):
        return b""
    buffer = io.BytesIO()
    _grid(lines).save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def strips_of(board: Board, section: Section) -> Strips:
    """The records of a data set that may have a picture of what was released or rebuilt."""
    planned = board.plan.tables[section.dataset]
    return {
        record.key: record
        for record in published(board.planned[section.dataset], planned.seed)
        if record.attack is not None
        and planned.attacks[record.attack.label].faces in ("released", "rebuilt")
        and record.status == "ok"
        and record.samples
        and not record.real_people
    }


def seen(row: Row, strips: Strips) -> list[Cell]:
    """The cells of a row that have a picture."""
    return [cell for cell in row.cells if cell.key in strips]


def clear_of(board: Board, section: Section, strips: Strips) -> Record | None:
    """Of the faces as they are: what is released where nothing is protected."""
    planned = board.plan.tables[section.dataset]
    found = (
        record
        for record in strips.values()
        if record.attack is not None and planned.attacks[record.attack.label].faces == "released"
        and record.defense.label in planned.defenses and planned.defenses[record.defense.label].unprotected
    )  # fmt: skip
    return next(found, None)


def faces_of(board: Board, record: Record | None, side: int = SHOWN) -> list[Image.Image]:
    """The first faces of a record's strip, of so many pixels a side; none where there is none or it is not read."""
    content = board.strip(record) if record is not None else None
    strip = _opened(content) if content and len(content) <= LARGEST else None
    if strip is None or strip.height != FACE or strip.width % FACE or strip.width > 64 * FACE:
        return []
    count = min(FACES, strip.width // FACE)
    faces = [strip.crop((i * FACE, 0, (i + 1) * FACE, FACE)) for i in range(count)]
    return faces if side == FACE else [face.resize((side, side), Image.Resampling.LANCZOS) for face in faces]


def stretched(faces: Sequence[Image.Image]) -> tuple[tuple[Image.Image, ...], bool]:
    """The faces, those that are nearly flat with their tones stretched; and whether one was.

    All channels are stretched alike, around the middle of their tones, so that no colour appears that was not there.
    """
    found, changed = [], False
    for face in faces:
        tones = np.asarray(face, dtype=np.float64)
        low, high = np.percentile(tones, (1, 99))
        flat = bool(high - low < FLAT and tones.max() > tones.min())
        changed |= flat
        if flat:
            gain = min(255 / max(high - low, 1), MOST)
            middle = (low + high) / 2
            face = Image.fromarray(np.clip(127.5 + gain * (tones - middle), 0, 255).round().astype(np.uint8))
        found.append(face)
    return tuple(found), changed


def _opened(content: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            return opened.convert("RGB") if opened.height == FACE else None  # A larger image is not decoded.
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that the glyphs are the same on every machine."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _grid(lines: Sequence[Line]) -> Image.Image:
    """A line each: what the faces are, and the faces side by side."""
    width = 2 * MARGIN + LABEL + FACES * SHOWN + (FACES - 1) * GAP
    image = Image.new("RGB", (width, 2 * MARGIN + len(lines) * (SHOWN + 8) - 8), PAGE)
    draw, name, small = ImageDraw.Draw(image), font(14), font(11)
    for index, (label, note, faces) in enumerate(lines):
        top, left = MARGIN + index * (SHOWN + 8), MARGIN + LABEL
        draw.text((MARGIN, top + 24), _fitted(plain(label), name), fill=INK, font=name)
        draw.text((MARGIN, top + 46), _fitted(plain(note), small), fill=INK, font=small)
        if not faces:
            draw.rectangle((left, top, width - MARGIN - 1, top + SHOWN - 1), fill=EMPTY)
            draw.text((left + 10, top + SHOWN // 2 - 8), "not recorded", fill=INK, font=small)
        for i, face in enumerate(faces):
            image.paste(face, (left + i * (SHOWN + GAP), top))
    return image


def _fitted(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut to the width of the label column."""
    if font.getlength(text) <= LABEL - 10:
        return text
    while text and font.getlength(text + "…") > LABEL - 10:
        text = text[:-1]
    return text + "…"
