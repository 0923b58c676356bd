"""The line-up shows the faces of today's records, and what it says of them is what a recognizer makes of them."""

from __future__ import annotations

from pathlib import Path

import line_up
import numpy as np
import pytest
from face_picture import PERSON
from line_up import SIDE, alt, draw, load_data, measure, rebuilt, recorded, top_of
from PIL import Image

from ppfr_bench.recognizers import recognizer_class
from ppfr_bench.suites import load_suite

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="no checkout: no committed records")
AGAIN = "python studies/line_up.py"


def test_it_is_of_the_records_and_the_recognizer_of_today() -> None:
    found, today = recorded(), list(rebuilt())
    assert [(panel.defense, panel.key, panel.samples) for panel in found.panels] == [
        (one.row.defense, one.record.key, one.record.samples) for one in today
    ], AGAIN
    assert {one.record.dataset_revision for one in today} == {found.revision}, AGAIN
    assert found.version == recognizer_class(found.recognizer).version, AGAIN
    suite = load_suite(found.suite)
    assert found.recognizer in suite.recognizers and found.recognizer != suite.surrogate
    assert not [one.row.defense for one in today if found.recognizer in one.row.seen]
    assert found.gallery == suite.dataset.params["gallery"]


def test_candidates_stand_in_the_order_of_their_likeness() -> None:
    for panel in recorded().panels:
        for face in panel.faces:
            assert face.cosines == sorted(face.cosines, reverse=True) and len(set(face.candidates)) == 5
            if face.person in face.candidates:
                assert face.rank == 1 + face.candidates.index(face.person)
                assert face.cosine == face.cosines[face.rank - 1]
            else:
                assert face.rank > 5 and face.cosine <= face.cosines[-1]


def test_its_rebuilt_faces_are_those_of_the_records() -> None:
    kept = np.asarray(Image.open(line_up.PICTURE).convert("RGB"), dtype=float)
    for at, one in enumerate(rebuilt()):
        face = np.asarray(one.faces[PERSON].resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=float)
        assert np.abs(kept[top_of(at) : top_of(at) + SIDE, :SIDE] - face).mean() < 4, AGAIN


@pytest.mark.assets
def test_measured_again_it_says_the_same() -> None:
    data, found = load_data(), recorded()
    again = measure(data)
    for panel, other in zip(found.panels, again.panels, strict=True):
        for face, measured_again in zip(panel.faces, other.faces, strict=True):
            assert (face.person, face.rank) == (measured_again.person, measured_again.rank)
            assert face.candidates == measured_again.candidates
            assert face.cosines == pytest.approx(measured_again.cosines, abs=1e-3)
    drawn, kept = (
        np.asarray(picture.convert("RGBA"), dtype=float) for picture in (draw(found, data), Image.open(line_up.PICTURE))
    )
    assert drawn.shape == kept.shape
    assert (np.abs(drawn - kept)[drawn[..., 3] > 0]).mean() < 6, AGAIN


def test_its_alternative_text_has_its_numbers() -> None:
    page = (ROOT / "docs" / "reading_a_row.md").read_text(encoding="utf-8")
    assert f"![{alt(recorded())}](line_up.webp)" in page
    for panel in recorded().panels:
        face = panel.faces[PERSON]
        assert f"true person rank {face.rank}, cosine {face.cosine:.2f}" in alt(recorded())
