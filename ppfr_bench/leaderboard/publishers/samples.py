"""``samples.png``: synthetic faces as they are, as released, and as the best attack rebuilds them."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.seeds import published
from ppfr_bench.leaderboard.text import plain
from ppfr_bench.records.record import Record

FACE = 112  # A face in a strip has so many pixels a side.
SHOWN = 84
FACES = 3
GAP = 3
GROUP_GAP = 18
MARGIN = 16
LABEL = 196
HEADING = 34
LARGEST = 8 * 1024 * 1024  # Bytes of a strip.
GROUPS = ("original", "released", "best reconstruction")
CLEAR = ("#00000000", "#757b86", "#75809433")  # Page, ink and gap: read as easily on a white page as on a dark one.
DARK = ("#20242c", "#d8dce4", "#333944")  # A JPEG is never transparent: a dark panel suits both pages.

Line = tuple[str, str, list[list[Image.Image]]]  # Label, small print, faces of each group.
Strips = dict[tuple[str, str], Record]  # The key is the labels of the defense and of the attack.


class SampleGrid(Publisher):
    """Rows are defenses. Never made where a record of the table is of real people."""

    name = "samples.png"
    order = 20

    def publish(self, board: Board) -> dict[str, bytes]:
        """PNG, or nothing where there is nothing that may be shown."""
        blocks = _blocks(board)
        if not _shown(blocks):
            return {}
        image = _grid(blocks, GROUPS, CLEAR)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=7)
        return {self.name: buffer.getvalue()}


def defense_grid(board: Board, label: str) -> bytes:
    """JPEG of synthetic faces as they are, as released by a defense, and as each attack rebuilds them; or nothing."""
    lines: list[Line] = []
    for section in board.sections:
        if section.real_people or all(row.defense != label for row in section.rows):
            continue
        strips = strips_of(board, section)
        faces = {attack: planned.faces for attack, planned in board.plan.tables[section.dataset].attacks.items()}
        mine = {attack: record for (of, attack), record in strips.items() if of == label}
        lines.append(("original", section.dataset, [faces_of(board, clear_of(board, section, strips))]))
        for attack in sorted(mine, key=lambda attack: (faces[attack] != "released", attack)):
            note = "as released" if faces[attack] == "released" else "rebuilt"
            lines.append((attack, note, [faces_of(board, mine[attack])]))
    if not any(line[2][0] for line in lines[1:]):
        return b""
    buffer = io.BytesIO()
    _grid(lines, (), DARK).convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def has_samples(board: Board) -> bool:
    """Whether there is a picture to show."""
    return _shown(_blocks(board))


def _blocks(board: Board) -> list[Line]:
    return [line for section in board.sections if not section.real_people for line in _lines(board, section)]


def _shown(lines: list[Line]) -> bool:
    return any(faces for _, _, groups in lines for faces in groups)


def _lines(board: Board, section: Section) -> list[Line]:
    strips = strips_of(board, section)
    clear = clear_of(board, section, strips)
    lines: list[Line] = []
    for row in section.rows:
        if row.unprotected:
            continue  # All three of its pictures are the original.
        looking = next((cell.attack for cell in row.cells if cell.faces == "released"), "")
        found = (clear, strips.get((row.defense, looking)), strips.get((row.defense, best_of(row))))
        lines.append((row.defense, _small_print(row), [faces_of(board, record) for record in found]))
    return lines


def strips_of(board: Board, section: Section) -> Strips:
    """The records of a data set that may have a picture of what was released or rebuilt."""
    planned = board.plan.tables[section.dataset]
    return {
        (record.defense.label, record.attack.label): record
        for record in published(board.planned[section.dataset], planned.seed)
        if record.attack is not None
        and planned.attacks[record.attack.label].faces in ("released", "rebuilt")
        and record.status == "ok"
        and record.samples
        and not record.real_people
    }


def clear_of(board: Board, section: Section, strips: Strips) -> Record | None:
    """Of the faces as they are: what is released where nothing is protected."""
    planned = board.plan.tables[section.dataset]
    found = (
        record
        for (defense, attack), record in strips.items()
        if planned.attacks[attack].faces == "released"
        and defense in planned.defenses and planned.defenses[defense].unprotected
    )  # fmt: skip
    return next(found, None)


def best_of(row: Row) -> str:
    """The label of the best reconstruction's attack; empty if there is none."""
    return row.reconstruction.attack if row.reconstruction else ""


def _small_print(row: Row) -> str:
    return f"rebuilt by {best_of(row)}" if row.reconstruction else "no reconstruction"


def faces_of(board: Board, record: Record | None, side: int = SHOWN) -> list[Image.Image]:
    """The first faces of a record's strip, of so many pixels a side; none where there is none or it is not read."""
    content = board.strip(record) if record is not None else None
    strip = _opened(content) if content and len(content) <= LARGEST else None
    if strip is None or strip.height != FACE or strip.width % FACE or strip.width > 64 * FACE:
        return []
    count = min(FACES, strip.width // FACE)
    faces = [strip.crop((i * FACE, 0, (i + 1) * FACE, FACE)) for i in range(count)]
    return faces if side == FACE else [face.resize((side, side), Image.Resampling.LANCZOS) for face in faces]


def _opened(content: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            return opened.convert("RGB") if opened.height == FACE else None  # A larger image is not decoded.
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    # The font comes with matplotlib, so the glyphs are the same on every machine.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _grid(lines: list[Line], groups: tuple[str, ...], colours: tuple[str, str, str]) -> Image.Image:
    """A line each, its groups of faces side by side; under headings, if there are any."""
    page, ink, empty = colours
    columns, heading_height = max(1, len(groups)), HEADING if groups else 0
    group = FACES * SHOWN + (FACES - 1) * GAP
    width = 2 * MARGIN + LABEL + columns * group + (columns - 1) * GROUP_GAP
    image = Image.new("RGBA", (width, 2 * MARGIN + heading_height + len(lines) * (SHOWN + 8) - 8), page)
    draw = ImageDraw.Draw(image)
    heading, name, small = _font(15), _font(14), _font(11)
    for column, title in enumerate(groups):
        draw.text((MARGIN + LABEL + column * (group + GROUP_GAP), MARGIN), title, fill=ink, font=heading)
    for index, (label, note, strips) in enumerate(lines):
        top = MARGIN + heading_height + index * (SHOWN + 8)
        draw.text((MARGIN, top + 24), _fitted(plain(label), name), fill=ink, font=name)
        draw.text((MARGIN, top + 46), _fitted(plain(note), small), fill=ink, font=small)
        for column, faces in enumerate(strips):
            left = MARGIN + LABEL + column * (group + GROUP_GAP)
            if not faces:
                draw.rectangle((left, top, left + group - 1, top + SHOWN - 1), fill=empty)
                draw.text((left + 10, top + SHOWN // 2 - 8), "not recorded", fill=ink, font=small)
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


PUBLISHER = SampleGrid
