"""Draw ``docs/faces.webp``: synthetic faces, what is released of them, and what attackers rebuild.

    python studies/face_picture.py

The faces are those that the published records of ``quick`` keep; nobody real is on them.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "faces.webp"
SUITE = "quick"
ROWS = (
    ("gaussian_blur", "blur"), ("pixelate", "pixelation"),
    ("stochastic_anonymizer", "trained\nanonymizer,\nstrength 0.35"),
    ("stochastic_anonymizer_100", "trained\nanonymizer,\nstrength 1.0"),
)  # fmt: skip
COLUMNS = (
    ("no_defense", "visual", "the face"), ("", "visual", "what is\nreleased"),
    ("", "unet", "rebuilt from\none release"), ("", "averaging_4", "rebuilt from\nfour releases"),
)  # fmt: skip
PERSON = 1  # Of a strip.
FACE, SHOWN, GAP, HEADING, LABEL, LETTERS = 112, 140, 14, 60, 190, 21
INK = (120, 128, 143, 255)  # Read on white and on black.


def strips() -> dict[tuple[str, str], list[Image.Image]]:
    """(label of a defense, label of an attack) -> the faces that its record keeps."""
    store = ResultStore(ROOT / "results")
    found: dict[tuple[str, str], list[Image.Image]] = {}
    for record in store.records(SUITE):
        if record.attack is not None and record.samples and not record.real_people:
            found[record.defense.label, record.attack.label] = _faces(store, record)
    return found


def _faces(store: ResultStore, record: Record) -> list[Image.Image]:
    content = store.strip(record)
    assert content is not None, f"{record.key} has lost its faces"
    strip = Image.open(io.BytesIO(content)).convert("RGB")
    return [strip.crop((at, 0, at + FACE, FACE)) for at in range(0, strip.width, FACE)]


def draw() -> Image.Image:
    """RGBA without a ground: a line a defense, a column what is seen of it."""
    faces = strips()
    size = (LABEL + len(COLUMNS) * (SHOWN + GAP) - GAP, HEADING + len(ROWS) * (SHOWN + GAP) - GAP)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=LETTERS)
    for column, (of, attack, heading) in enumerate(COLUMNS):
        left = LABEL + column * (SHOWN + GAP)
        pen.multiline_text((left, HEADING - 6), heading, INK, font, anchor="ld", spacing=2)
        for line, (defense, _) in enumerate(ROWS):
            face = faces[of or defense, attack][PERSON].resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
            picture.paste(face, (left, HEADING + line * (SHOWN + GAP)))
    for line, (_, title) in enumerate(ROWS):
        middle = HEADING + line * (SHOWN + GAP) + SHOWN // 2
        pen.multiline_text((0, middle), title, INK, font, anchor="lm", spacing=2)
    return picture


if __name__ == "__main__":
    draw().save(PICTURE, "WEBP", quality=88, method=6)
