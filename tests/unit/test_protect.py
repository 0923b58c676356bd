"""Faces of pictures: protected where they are found, never quietly clear."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.api import ByteArray, UserError
from ppfr_bench.cli import app
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face
from ppfr_bench.protection.picture import blend, protect_image
from ppfr_bench.testing import example_faces

CROP = example_faces().load([0])[0]


def blackout() -> Any:
    return registry.build("defense", "blackout", {})


def room(at: tuple[int, int] | None = (60, 40)) -> ByteArray:
    """260x280, with a face in it or not."""
    picture = Image.new("RGB", (280, 260), (90, 100, 110))
    if at is not None:
        face = Image.fromarray(CROP.transpose(1, 2, 0)).resize((140, 140), Image.Resampling.BICUBIC)
        picture.paste(face, at)
    return np.asarray(picture)


def face_at(x: float, y: float, scale: float = 1.25) -> Face:
    points = (DLIB_TEMPLATE + 0.5) * scale + [x, y] - 0.5
    return Face((x + 20, y + 30, x + 120, y + 130), points)


def png(image: ByteArray, **info: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **info)
    return buffer.getvalue()


def decoded(content: bytes) -> ByteArray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_whole_crop_is_replaced_and_the_rest_is_left() -> None:
    image = room()
    before = image.copy()
    blend(image := image.copy(), np.zeros_like(CROP), face_at(60, 40).points)
    assert (image[41:179, 61:199] == 0).all(), "a clear pixel shines through"
    far = np.ones(image.shape[:2], bool)
    far[40 - 11 : 180 + 11, 60 - 11 : 200 + 11] = False
    assert np.array_equal(image[far], before[far])


def test_a_crop_goes_back_to_where_it_came_from() -> None:
    image = room().copy()
    blend(image, CROP, face_at(60, 40).points)
    assert np.abs(image.astype(int) - room())[45:175, 65:195].mean() < 2


@pytest.mark.parametrize("at", [(-80, -80), (200, 200), (900, 900)])
def test_a_face_at_the_edge_or_beyond(at: tuple[int, int]) -> None:
    image = room(None).copy()
    blend(image, np.zeros_like(CROP), face_at(*at).points)
    assert image.shape == (260, 280, 3) and (image == 0).any() == (at != (900, 900))


@pytest.mark.assets
def test_a_picture(tmp_path: Path) -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("GPS", "at home")
    done = protect_image(blackout(), png(room(), pnginfo=told), seed=0)
    content = done.content
    assert done.faces == 1 and b"at home" not in content and not done.left_clear and not done.not_checked
    assert (decoded(content)[75:165, 85:175] == 0).all() and np.array_equal(decoded(content)[:20], room()[:20])
    with pytest.raises(UserError, match="no face was found, so nothing is released"):
        protect_image(blackout(), png(room(None)), seed=0)
    with pytest.raises(UserError, match="not an image"):
        protect_image(blackout(), b"text")


@pytest.mark.assets
def test_a_face_that_is_missed_in_a_group_is_said(tmp_path: Path) -> None:
    """The second person is too small for what is looked for: that face leaves clear, and not in silence."""
    group = Image.new("RGB", (700, 300), (90, 100, 110))
    for size, at in ((200, (40, 40)), (48, (560, 120))):
        group.paste(Image.fromarray(CROP.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC), at)
    group.save(tmp_path / "group.png")
    arguments = ["protect", "blackout", str(tmp_path / "group.png"), str(tmp_path / "out.png")]
    run = CliRunner().invoke(app, [*arguments, "--smallest", "80"])
    assert run.exit_code == 1 and "finds 1 faces left clear, the largest from (5" in run.stderr
    assert "--smallest 24" in run.stderr and (tmp_path / "out.png").is_file()
    again = CliRunner().invoke(app, [*arguments, "--smallest", "24"])
    assert again.exit_code == 0 and "2 faces protected" in again.stdout and not again.stderr


def test_stdin_to_stdout() -> None:
    """112x112 is an aligned face, as in a folder."""
    source = png(CROP.transpose(1, 2, 0))
    run = CliRunner().invoke(app, ["protect", "pixelate", "-", "-", "--seed", "1"], input=source)
    assert run.exit_code == 0 and decoded(run.stdout_bytes).shape == (112, 112, 3)
    assert run.stdout_bytes == protect_image(registry.build("defense", "pixelate", {}), source, seed=1).content
    assert not np.array_equal(decoded(run.stdout_bytes), decoded(source))
    wrong = CliRunner().invoke(app, ["protect", "pixelate", "-", "out.png"], input=source)
    assert isinstance(wrong.exception, UserError) and "both -" in str(wrong.exception)
