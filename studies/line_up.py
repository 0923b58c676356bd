"""Draw ``docs/line_up.webp``: a rebuilt face beside the five people whom a recognizer takes it for.

    python studies/line_up.py

The defenses and the faces are those of ``face_picture.py``: the sample faces that the published records of ``quick``
keep, rebuilt by the attack that recovers most. The candidates are the clear photos among which the attackers of that
suite name people. ``line_up.json`` has the numbers; nobody real is on the picture. The attack ``linkage`` of the suite
compares all versions of a rebuilt face, before they are stored as JPEG, so that its similarities differ a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from face_picture import INK, PERSON, ROOT, ROWS, SUITE, WORDS, measured
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel

from ppfr_bench.api import ByteArray, FaceDataset, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.leaderboard.publishers._samples import FACE, faces_of
from ppfr_bench.leaderboard.publishers.faces import strongest
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import listed
from ppfr_bench.recognizers import load_recognizer
from ppfr_bench.records.record import Record
from ppfr_bench.suites import load_suite

PICTURE, MEASURED = ROOT / "docs" / "line_up.webp", Path(__file__).with_suffix(".json")
RECOGNIZER = "mobilefacenet"  # No defense was trained on it, and no attack.
CANDIDATES = 5
SIDE, GAP, APART = 104, 10, 18  # Pixels: a face, between faces, between groups of faces.
LETTERS, LINE, OUTLINE, ABOVE, BETWEEN = 25, 30, 5, 12, 26


class Face(BaseModel):
    """A rebuilt face before the gallery.

    Attributes:
        person: the number of the true person in the gallery, from 0.
        rank: 1 + the number of gallery photos that are more like the rebuilt face than that of the true person.
        cosine: of the rebuilt face and the gallery photo of the true person, in [-1, 1].
        candidates: the numbers of the people whose photos are most like the rebuilt face, most alike first.
        cosines: of the rebuilt face and each of these photos.
    """

    person: int
    rank: int
    cosine: float
    candidates: list[int]
    cosines: list[float]


class Panel(BaseModel):
    """The sample faces of a defense, and the record that has them.

    Attributes:
        attack, releases: what rebuilt them, and of how many releases of a photo it made use.
        key, samples: of the record, and the sha256 of its strip of sample faces.
    """

    defense: str
    attack: str
    releases: int
    key: str
    samples: str
    faces: list[Face]


class LineUp(BaseModel):
    """What was measured.

    Attributes:
        recognizer, version: what compares faces: the mean embedding of an image and of its mirror image.
        revision: of the data set.
        gallery: people, one clear photo each.
    """

    suite: str
    revision: str
    recognizer: str
    version: int
    gallery: int
    panels: list[Panel]


class Rebuilt(NamedTuple):
    """A defense of the picture, and the record of the attack that recovers most of it."""

    row: Row
    title: str
    record: Record
    releases: int
    faces: list[Image.Image]


def rebuilt() -> Iterator[Rebuilt]:
    """The defenses of the picture, as the published records have them today."""
    board, _, strips, rows = measured()
    for row, (_, title) in zip(rows, ROWS, strict=True):
        cell = strongest(row, strips)
        assert cell is not None, f"no attack on {row.defense} has kept its faces"
        record = strips[cell.key]
        yield Rebuilt(row, " ".join(title.split()), record, cell.shots, faces_of(board, record, FACE))


def load_data() -> FaceDataset:
    """The faces of the suite."""
    entry = load_suite(SUITE).dataset
    return load_dataset(entry.name, entry.params)


def measure(data: FaceDataset) -> LineUp:
    """Compare each sample face with every photo of the gallery."""
    recognizer = load_recognizer(RECOGNIZER)
    gallery = _embedded(recognizer, data.evaluation.load(data.gallery))
    people = data.evaluation.identities[data.gallery]
    # A strip has the first target of each person, people in order.
    targets = np.unique(data.evaluation.identities[data.targets])
    panels = []
    for one in rebuilt():
        images = np.stack([np.asarray(face).transpose(2, 0, 1) for face in one.faces])
        faces = [
            _face(cosines, int(np.flatnonzero(people == person)[0]))
            for cosines, person in zip(_embedded(recognizer, images) @ gallery.T, targets, strict=False)
        ]
        panels.append(
            Panel(
                defense=one.row.defense, attack=one.record.attack.label if one.record.attack else "",
                releases=one.releases, key=one.record.key, samples=one.record.samples, faces=faces,
            )
        )  # fmt: skip
    return LineUp(
        suite=SUITE, revision=data.revision, recognizer=RECOGNIZER, version=recognizer.version, gallery=len(gallery),
        panels=panels,
    )  # fmt: skip


def _embedded(recognizer: Any, images: ByteArray) -> Any:
    """Unit embeddings (n, d) of uint8 (n, 3, 112, 112): the mean of those of an image and of its mirror image."""
    both = [recognizer.embed(to_float(np.ascontiguousarray(one))).numpy() for one in (images, images[..., ::-1])]
    mean = np.mean(both, axis=0, dtype=np.float64)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _face(cosines: Any, person: int) -> Face:
    order = np.argsort(-cosines, kind="stable")[:CANDIDATES]
    return Face(
        person=person, rank=1 + int((cosines > cosines[person]).sum()), cosine=round(float(cosines[person]), 4),
        candidates=order.tolist(), cosines=[round(float(cosines[at]), 4) for at in order],
    )  # fmt: skip


def recorded() -> LineUp:
    """What was measured last."""
    return LineUp.model_validate_json(MEASURED.read_text(encoding="utf-8"))


def draw(found: LineUp, data: FaceDataset) -> Image.Image:
    """RGBA without a ground: below each other, a line of faces for each defense."""
    clear = [Image.fromarray(face.transpose(1, 2, 0)) for face in data.evaluation.load(data.gallery)]
    height = top_of(len(found.panels)) - ABOVE - LETTERS - BETWEEN
    picture = Image.new("RGBA", (_left(CANDIDATES + 1) + SIDE, height), (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=LETTERS)
    for column, words in ((0, "rebuilt"), (1, "most alike, in order"), (CANDIDATES + 1, "true")):
        pen.text((_left(column), LETTERS), words, INK, font, anchor="ls")
    for at, (panel, one) in enumerate(zip(found.panels, rebuilt(), strict=True)):
        face, top = panel.faces[PERSON], top_of(at)
        pen.text((0, top - ABOVE), _title(one), INK, font, anchor="ls")
        shown = [one.faces[PERSON], *(clear[person] for person in face.candidates), clear[face.person]]
        below = ["", *("true" if person == face.person else "" for person in face.candidates), f"rank {face.rank}"]
        cosines = [None, *face.cosines, face.cosine]
        for column, (image, mark, cosine) in enumerate(zip(shown, below, cosines, strict=True)):
            left = _left(column)
            picture.paste(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))
            if mark == "true":
                box = (left - OUTLINE, top - OUTLINE, left + SIDE + OUTLINE - 1, top + SIDE + OUTLINE - 1)
                pen.rectangle(box, outline=INK, width=OUTLINE)
            for line, words in enumerate(("" if cosine is None else f"{cosine:.2f}", mark)):
                place = (left + SIDE // 2, top + SIDE + OUTLINE + LETTERS + line * LINE)
                pen.text(place, words, INK, font, anchor="ms")
    return picture


def top_of(panel: int) -> int:
    """Where the faces of a panel start, in pixels from the top."""
    below = OUTLINE + LETTERS + LINE  # Two lines of words.
    return 2 * LETTERS + BETWEEN + ABOVE + panel * (SIDE + below + BETWEEN + LETTERS + ABOVE)


def alt(found: LineUp) -> str:
    """What the picture says, for who does not see it."""
    said = []
    for panel, one in zip(found.panels, rebuilt(), strict=True):
        face = panel.faces[PERSON]
        most = listed(f"{cosine:.2f}" for cosine in face.cosines)
        said.append(f"{_title(one)}: true person rank {face.rank}, cosine {face.cosine:.2f}; most alike {most}.")
    return (
        f"Computer-generated faces, a line for each defense: a rebuilt face, the {CANDIDATES} of {found.gallery} "
        f"people who are most like it, and the true person. {' '.join(said)}"
    )


def named(found: LineUp) -> str:
    """Of how many sample faces of each defense the true person is the most alike."""
    return listed(
        f"{sum(face.rank == 1 for face in panel.faces)} of {len(panel.faces)} ({one.title})"
        for panel, one in zip(found.panels, rebuilt(), strict=True)
    )


def _title(one: Rebuilt) -> str:
    many = WORDS.get(one.releases, f"{one.releases} releases")
    return f"{one.title[0].upper()}{one.title[1:]}, rebuilt from {many}"


def _left(column: int) -> int:
    """Of a column of faces, pixels: the rebuilt one, the candidates, the true person."""
    return column * (SIDE + GAP) + (column > 0) * APART + (column > CANDIDATES) * APART


if __name__ == "__main__":
    faces = load_data()
    line_up = measure(faces)
    MEASURED.write_text(line_up.model_dump_json(indent=1) + "\n", encoding="utf-8", newline="\n")
    draw(line_up, faces).save(PICTURE, "WEBP", quality=88, method=6)
    print(alt(line_up))
