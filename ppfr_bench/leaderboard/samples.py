"""The picture of samples: synthetic faces as they are, as released, and as the best attack rebuilds them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.table import LOOKING
from ppfr_bench.leaderboard.text import plain
from ppfr_bench.results import Record

FACE = 112  # pixels a side in a strip
SHOWN = 84
FACES = 3
GAP = 3
GROUP_GAP = 18
MARGIN = 16
LABEL = 196
HEADING = 34
LARGEST = 8 * 1024 * 1024  # bytes of a strip
GROUPS = ("original", "released", "best reconstruction")
PAGE, INK, FAINT, EMPTY = "#ffffff", "#1c2230", "#5c6577", "#eef0f4"


class SampleGrid:
    """``samples.png``: rows are defenses. Never made where a record of the table is of real people."""

    name = "samples.png"
    order = 20

    def publish(self, board: Board) -> dict[str, bytes]:
        """PNG, or nothing where there is nothing that may be shown."""
        blocks = _blocks(board)
        if not _shown(blocks):
            return {}
        image = _grid(blocks, GROUPS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return {self.name: buffer.getvalue()}


def defense_grid(board: Board, label: str) -> bytes:
    """JPEG of synthetic faces as they are, as released by a defense, and as each attack rebuilds them; or nothing."""
    lines: list[Line] = []
    for section in board.sections:
        if section.real_people or all(row.defense != label for row in section.rows):
            continue
        strips = _strips(board, section)
        mine = sorted((attack, name, r) for (of, name, attack), r in strips.items() if of == label)
        lines.append(("original", section.dataset, [_faces(board.root, _clear(strips))]))
        for attack, name, record in sorted(mine, key=lambda one: (one[1] != LOOKING, one[0])):
            note = "as released" if name == LOOKING else "rebuilt"
            lines.append((attack, note, [_faces(board.root, record)]))
    if not any(line[2][0] for line in lines[1:]):
        return b""
    buffer = io.BytesIO()
    _grid(lines, ()).save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def has_samples(board: Board) -> bool:
    """Whether there is a picture to show."""
    return _shown(_blocks(board))


Line = tuple[str, str, list[list[Image.Image]]]  # label, small print, faces of each group


def _blocks(board: Board) -> list[Line]:
    return [line for section in board.sections if not section.real_people for line in _lines(board, section)]


def _shown(lines: list[Line]) -> bool:
    return any(strip for _, _, strips in lines for strip in strips)


def _lines(board: Board, section: Section) -> list[Line]:
    strips = _strips(board, section)
    clear = _clear(strips)
    lines: list[Line] = []
    for row in section.rows:
        if row.name == "identity":
            continue  # its three pictures are the original
        looked = (r for (label, name, _), r in strips.items() if (label, name) == (row.defense, LOOKING))
        released = next(looked, None)
        rebuilt = next(
            (r for (label, _, attack), r in strips.items() if label == row.defense and attack == _best(row)), None
        )
        lines.append((row.defense, _small_print(row), [_faces(board.root, r) for r in (clear, released, rebuilt)]))
    return lines


Strips = dict[tuple[str, str, str], Record]  # defense, attack, its label


def _strips(board: Board, section: Section) -> Strips:
    """The records of a table that may have a picture of what was released or rebuilt."""
    return {
        (record.defense.label, record.attack.name, record.attack.label): record
        for record in board.records
        if record.attack is not None
        and record.measures == "appearance"
        and record.status == "ok"
        and record.dataset.label == section.dataset
        and not record.real_people
    }


def _clear(strips: Strips) -> Record | None:
    """Of the faces as they are: what is released where nothing is protected."""
    looked = (record for (_, name, _), record in strips.items() if name == LOOKING)
    return next((record for record in looked if record.defense.name == "identity"), None)


def _best(row: Row) -> str:
    return row.reconstruction.attack if row.reconstruction else ""


def _small_print(row: Row) -> str:
    return f"rebuilt by {_best(row)}" if row.reconstruction else "no reconstruction"


def _faces(root: Path, record: Record | None) -> list[Image.Image]:
    """The first faces of a record's strip; none where the file is not the very picture that the record names."""
    if record is None or not record.samples or Path(record.samples).name != record.samples:
        return []
    path = root / record.folder / record.samples
    if not path.is_file() or path.stat().st_size > LARGEST:
        return []
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != record.samples_sha256:
        return []
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as opened:
            if opened.height != FACE or opened.width % FACE or opened.width > 64 * FACE:
                return []
            strip = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return []
    count = min(FACES, strip.width // FACE)
    faces = [strip.crop((i * FACE, 0, (i + 1) * FACE, FACE)) for i in range(count)]
    return [face.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS) for face in faces]


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    # The font that comes with matplotlib: the same glyphs on every machine.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _grid(lines: list[Line], groups: tuple[str, ...]) -> Image.Image:
    """A line each, its groups of faces side by side; under headings, if there are any."""
    columns, heading_height = max(1, len(groups)), HEADING if groups else 0
    group = FACES * SHOWN + (FACES - 1) * GAP
    width = 2 * MARGIN + LABEL + columns * group + (columns - 1) * GROUP_GAP
    image = Image.new("RGB", (width, 2 * MARGIN + heading_height + len(lines) * (SHOWN + 8) - 8), PAGE)
    draw = ImageDraw.Draw(image)
    heading, name, small = _font(15), _font(14), _font(11)
    for column, title in enumerate(groups):
        draw.text((MARGIN + LABEL + column * (group + GROUP_GAP), MARGIN), title, fill=FAINT, font=heading)
    for index, (label, note, strips) in enumerate(lines):
        top = MARGIN + heading_height + index * (SHOWN + 8)
        draw.text((MARGIN, top + 24), _fitted(plain(label), name), fill=INK, font=name)
        draw.text((MARGIN, top + 46), _fitted(plain(note), small), fill=FAINT, font=small)
        for column, faces in enumerate(strips):
            left = MARGIN + LABEL + column * (group + GROUP_GAP)
            if not faces:
                draw.rectangle((left, top, left + group - 1, top + SHOWN - 1), fill=EMPTY)
                draw.text((left + 10, top + SHOWN // 2 - 8), "not recorded", fill=FAINT, font=small)
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
