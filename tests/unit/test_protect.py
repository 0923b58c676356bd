"""Faces of pictures and videos: protected where they are found, black where they are lost, never quietly clear."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from pydantic import Field
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard, UserError
from ppfr_bench.cli import app
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face
from ppfr_bench.protect import for_one_person
from ppfr_bench.protect_picture import blend, protect_bytes
from ppfr_bench.protect_video import Track, follow, protect_frame, protect_video
from ppfr_bench.testing import example_faces

CROP = example_faces().load([0])[0]


class KeyConfig(Config):
    secret: int = Field(0, ge=0)


class GreyOfTheKey(Defense):
    """Every image becomes the grey of the key, plus a level of the generator's."""

    version = 1
    card = DefenseCard(title="grey", family="test", reference="-", licence="MIT", randomness="per_user_key")
    Config = KeyConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.full_like(images, (self.config.secret % 200 + 20) / 255)


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
    content, faces = protect_bytes(blackout(), png(room(), pnginfo=told), seed=0)
    assert faces == 1 and b"at home" not in content
    assert (decoded(content)[75:165, 85:175] == 0).all() and np.array_equal(decoded(content)[:20], room()[:20])
    with pytest.raises(UserError, match="no face was found, so nothing is released"):
        protect_bytes(blackout(), png(room(None)), seed=0)
    with pytest.raises(UserError, match="not an image"):
        protect_bytes(blackout(), b"text")


def test_stdin_to_stdout() -> None:
    """112x112 is an aligned face, as in a folder."""
    source = png(CROP.transpose(1, 2, 0))
    run = CliRunner().invoke(app, ["protect", "pixelate", "-", "-", "--seed", "1"], input=source)
    assert run.exit_code == 0 and decoded(run.stdout_bytes).shape == (112, 112, 3)
    assert run.stdout_bytes == protect_bytes(registry.build("defense", "pixelate", {}), source, seed=1)[0]
    assert not np.array_equal(decoded(run.stdout_bytes), decoded(source))
    wrong = CliRunner().invoke(app, ["protect", "pixelate", "-", "out.png"], input=source)
    assert isinstance(wrong.exception, UserError) and "both -" in str(wrong.exception)


def test_tracks_follow_overlap_through_a_gap() -> None:
    frames = [[face_at(10 + 5 * i, 10)] if i not in (3, 4) else [] for i in range(8)]
    frames[5].append(face_at(400, 10))
    frames[6].insert(0, face_at(402, 10))
    first, second = follow(frames, patience=2)
    assert sorted(first.faces) == [0, 1, 2, 5, 6, 7] and sorted(second.faces) == [5, 6]
    assert len(follow(frames, patience=1)) == 3, "a gap longer than the patience ends a track"


@pytest.mark.parametrize(("moved", "tracks"), [(20, 1), (24, 2)])  # a third of the two boxes is shared; a quarter is
def test_a_track_needs_enough_overlap(moved: float, tracks: int) -> None:
    boxes = [(x, 0.0, x + 40, 40.0) for x in (0, moved)]
    assert len(follow([[Face(box, DLIB_TEMPLATE)] for box in boxes], patience=2)) == tracks


def test_where_a_face_is_lost_is_hidden_before_between_and_after() -> None:
    track = Track(10, face_at(0, 0))
    track.add(14, face_at(60, 0))
    assert track.hidden(10, 5) is None and track.hidden(4, 5) is None and track.hidden(20, 5) is None
    between = track.hidden(12, 1)
    assert between is not None and between[0] < 20 and between[2] > 180, "both places, and all between"
    lead, later = track.hidden(9, 5), track.hidden(5, 5)
    assert lead is not None and later is not None and later[2] - later[0] > lead[2] - lead[0] > 100


def test_a_frame_without_the_face_is_black_there_and_counted() -> None:
    track = Track(0, face_at(60, 40))
    cast = [(track, blackout(), torch.Generator())]
    out, protected, hidden = protect_frame(room(), 0, cast, hold=3)
    assert (protected, hidden) == (1, 0) and (out[45:175, 65:195] == 0).all()
    out, protected, hidden = protect_frame(room(), 1, cast, hold=3)  # it is there, and the detector missed it
    assert (protected, hidden) == (0, 1) and (out[40:200, 60:200] == 0).all() and out[10, 10].any()
    assert protect_frame(room(), 9, cast, hold=3)[1:] == (0, 0)


def test_a_user_s_key_is_one_a_track_and_another_for_another() -> None:
    keys = []
    for seed in (1, 1, 2):
        own = for_one_person(GreyOfTheKey(), torch.Generator().manual_seed(seed))
        keys.append(own.config.secret)
    assert keys[0] == keys[1] != keys[2]
    session = blackout()
    assert for_one_person(session, torch.Generator()) is session


def write_video(path: Path, frames: list[ByteArray]) -> Path:
    av = pytest.importorskip("av", reason="pip install 'ppfr-bench[video]'")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[ByteArray]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


@pytest.mark.assets
def test_a_video(tmp_path: Path) -> None:
    seen = [(40 + 6 * i, 40) for i in range(7)]
    frames = [room(at) for at in seen]
    frames[3] = room(None)  # the face is lost for a frame
    source = write_video(tmp_path / "in.mp4", frames)
    report = protect_video(GreyOfTheKey(), source, tmp_path / "out.mp4", seed=5)
    assert vars(report) == {"frames": 7, "tracks": 1, "protected": 6, "hidden": 1, "frames_hidden": 1}
    out = read_video(tmp_path / "out.mp4")
    levels = [frame[70:150, at[0] + 30 : at[0] + 110].astype(int) for frame, at in zip(out, seen, strict=True)]
    assert levels[3].max() < 12, "the lost face's place is not black"
    greys = [level.mean() for i, level in enumerate(levels) if i != 3]
    assert max(greys) - min(greys) < 4 and all(level.std() < 4 for level in levels), "not one key through the track"
    again = protect_video(GreyOfTheKey(), source, tmp_path / "again.mp4", seed=5)
    assert again == report and (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mp4", "in.mp4", "out.mp4"]


@pytest.mark.assets
def test_a_video_that_cannot_be_protected_leaves_no_file(tmp_path: Path) -> None:
    empty = write_video(tmp_path / "empty.mp4", [room(None)] * 3)
    with pytest.raises(UserError, match="no face was found in 3 frames"):
        protect_video(blackout(), empty, tmp_path / "out.mp4")
    (tmp_path / "text.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="is not a video that can be read"):
        protect_video(blackout(), tmp_path / "text.mp4", tmp_path / "out.mp4")
    with pytest.raises(UserError, match=r"ends in \.mp4"):
        protect_video(blackout(), empty, tmp_path / "out.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.mp4", "text.mp4"]
