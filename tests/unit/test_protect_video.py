"""Faces of a video: protected where they are found, black where they are lost, told of where they are left clear."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field
from typer.testing import CliRunner

from ppfr_bench import protect_video as module
from ppfr_bench import registry
from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard, UserError
from ppfr_bench.cli import app
from ppfr_bench.datasets import second_detector
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face, find_faces
from ppfr_bench.errors import Unavailable
from ppfr_bench.protect import for_one_person
from ppfr_bench.protect_picture import ReleasedPicture
from ppfr_bench.protect_video import protect_frame, protect_video
from ppfr_bench.testing import example_faces
from ppfr_bench.tracks import Track, follow
from ppfr_bench.video import Frame, Video, quarter_turn, turned

av = pytest.importorskip("av", reason="pip install 'ppfr-bench[video]'")

CROP = example_faces().load([0])[0]
ONE, LAST = 1 << 16, 1 << 30
NOISE = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8)
TURNS = {  # a, b, c, d of the display matrix -> the corners of RG/BW as they are seen, row by row
    "as it is": ((1, 0, 0, 1), "RGBW"),
    "upside down": ((-1, 0, 0, -1), "WBGR"),
    "clockwise": ((0, 1, -1, 0), "BRWG"),
    "anticlockwise": ((0, -1, 1, 0), "GWRB"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "mirrored, upside down": ((1, 0, 0, -1), "BWRG"),
    "transposed": ((0, 1, 1, 0), "RBGW"),
    "transposed the other way": ((0, -1, -1, 0), "WGBR"),
}


class KeyConfig(Config):
    secret: int = Field(0, ge=0)


class GreyOfTheKey(Defense):
    """Every image becomes the grey of the key, plus a level of the generator's."""

    version = 1
    card = DefenseCard(title="grey", family="test", reference="-", licence="MIT", randomness="per_user_key")
    Config = KeyConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.full_like(images, (self.config.secret % 200 + 20) / 255)


class ClearAfter(GreyOfTheKey):
    """Black for some images, and clear from then on."""

    card = DefenseCard(title="forgetful", family="test", reference="-", licence="MIT", randomness="deterministic")
    black = 2

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.black -= 1
        return torch.zeros_like(images) if self.black >= 0 else images


def blackout() -> Any:
    return registry.build("defense", "blackout", {})


def room(*places: tuple[int, int, int]) -> ByteArray:
    """260x280, with faces at (left, top, side)."""
    picture = Image.new("RGB", (280, 260), (90, 100, 110))
    for left, top, side in places:
        face = Image.fromarray(CROP.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(face, (left, top))
    return np.asarray(picture)


def face_at(x: float, y: float, scale: float = 1.25) -> Face:
    points = (DLIB_TEMPLATE + 0.5) * scale + [x, y] - 0.5
    return Face((x + 20, y + 30, x + 120, y + 130), points)


def write_video(
    path: Path,
    frames: Sequence[ByteArray],
    codec: str = "libx264",
    kind: str = "yuv420p",
    *,
    rate: int = 4,
    times: Sequence[int] | None = None,
    turn: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: float = 0,
    seconds_before: int = 0,
    **options: str,
) -> Path:
    """``times`` in ticks of one frame each; ``sound`` in seconds; ``options`` of the container."""
    with av.open(str(path), "w", container_options=options) as out:
        best = {"crf": "10", "g": "10"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=rate, options=best)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], kind
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        if turn is not None:
            if not hasattr(stream, "set_display_matrix"):
                pytest.skip("this PyAV does not write display matrices")
            stream.set_display_matrix(turn)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio = aspect
        if sound:
            add_sound(out, sound)
        for number, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.shape[2] == 3 else "rgba")
            made.pts = (number if times is None else times[number]) + seconds_before * rate
            made.time_base = Fraction(1, rate)
            out.mux(stream.encode(made))
        out.mux(stream.encode(None))
    return path


def add_sound(out: Any, seconds: float) -> None:
    stream = out.add_stream("aac", rate=16000)
    for start in range(0, round(16000 * seconds), 1024):
        loud = np.random.default_rng(start).normal(0, 0.3, (1, 1024)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(loud, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def read_video(path: Path) -> list[ByteArray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


def matrix(a: float, b: float, c: float, d: float, u: float = 0, v: float = 0, w: float = 1) -> list[int]:
    first, last = (
        [round(value * unit) for value in values] for values, unit in (((a, b, c, d), ONE), ((u, v, w), LAST))
    )
    return [first[0], first[1], last[0], first[2], first[3], last[1], 0, 0, last[2]]


def with_matrix(path: Path, entries: Sequence[int]) -> Path:
    """The MP4 with another display matrix in its track header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *entries)
    path.write_bytes(bytes(content))
    return path


def four_colours(height: int = 64, width: int = 96) -> ByteArray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255, 0, 0
    image[: height // 2, width // 2 :] = 0, 255, 0
    image[height // 2 :, : width // 2] = 0, 0, 255
    image[height // 2 :, width // 2 :] = 255
    return image


def corners(image: ByteArray) -> str:
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    return "".join(names[tuple(int(part > 127) for part in image[y, x])] for y in (8, -8) for x in (8, -8))


# Which way up


@pytest.mark.parametrize("name", TURNS)
def test_each_of_the_eight_display_matrices(name: str, tmp_path: Path) -> None:
    """Against the pixels, against PyAV's angle where nothing is mirrored, and against ffmpeg where it is installed."""
    entries, seen = TURNS[name]
    source = with_matrix(write_video(tmp_path / "in.mp4", [four_colours()] * 2), matrix(*entries))
    for frame in Video(source).frames():
        assert corners(frame.image) == seen
        assert frame.image.shape == ((64, 96, 3) if entries[0] else (96, 64, 3))
        assert frame.image.flags.c_contiguous
    if "mirrored" not in name and "transposed" not in name:
        with av.open(str(source)) as container:
            plain = next(container.decode(video=0))
            angle = round(plain.rotation / 90)
            assert corners(np.rot90(plain.to_ndarray(format="rgb24"), angle)) == seen
    if ffmpeg := shutil.which("ffmpeg"):
        command = [ffmpeg, "-v", "error", "-i", str(source), "-frames:v", "1", "-f", "image2pipe", "-c:v", "png", "-"]
        shown = subprocess.run(command, capture_output=True, check=True).stdout
        assert corners(np.asarray(Image.open(io.BytesIO(shown)).convert("RGB"))) == seen


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".mov", "mpeg4"), (".webm", "libvpx-vp9")])
def test_other_containers_turn_as_well(name: str, suffix: str, codec: str, tmp_path: Path) -> None:
    entries, seen = TURNS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    source = write_video(tmp_path / f"in{suffix}", [four_colours()] * 2, codec, turn=matrix(*entries))
    assert [corners(frame.image) for frame in Video(source).frames()] == [seen] * 2


@pytest.mark.parametrize(
    "entries",
    [
        [0] * 9, matrix(2, 0, 0, 2), matrix(1, 0.5, 0, 1), matrix(0.7071, 0.7071, -0.7071, 0.7071), matrix(2, 0, 0, 1),
        matrix(1, 0, 0, 1, w=0), matrix(1, 0, 0, 1, u=0.1), matrix(-1, 0, 0, 0), matrix(1, 1, 0, 0), matrix(1, 1, 1, 1),
        matrix(0.99, 0, 0, 1), [2**31 - 1] * 9, [-(2**31)] * 9,
    ],
)  # fmt: skip
def test_any_other_matrix_is_refused(entries: list[int], tmp_path: Path) -> None:
    source = with_matrix(write_video(tmp_path / "in.mp4", [four_colours()] * 2), entries)
    with pytest.raises(UserError, match="neither a quarter turn nor a mirror: a, b, c, d, u, v, w are") as refused:
        list(Video(source).frames())
    assert f"ffmpeg -i {source} upright.mp4" in refused.value.hint


def test_a_matrix_rounded_by_its_writer() -> None:
    assert quarter_turn([3, ONE - 2, 0, 1 - ONE, -4, 0, 5, 6, LAST]) == (0, 1, -1, 0)
    assert turned(four_colours(), (1, 0, 0, 1)).flags.c_contiguous


@pytest.mark.assets
@pytest.mark.parametrize("name", TURNS)
def test_no_turn_leaves_a_clear_face(name: str, tmp_path: Path) -> None:
    """The pixels are stored so that the matrix makes them upright; the other detector finds no face in the result."""
    turn, _ = TURNS[name]
    inverse = (turn[0], turn[2], turn[1], turn[3])
    frames = [turned(room((30 + 4 * i, 40, 140)), inverse) for i in range(4)]
    source = with_matrix(write_video(tmp_path / "in.mp4", frames), matrix(*turn))
    report = protect_video(blackout(), source, tmp_path / "out.mp4")
    assert (report.protected, report.frames_clear, report.warnings()) == (4, 0, [])
    for i, frame in enumerate(read_video(tmp_path / "out.mp4")):
        assert frame.shape == (260, 280, 3)
        assert frame[50:170, 40 + 4 * i : 160 + 4 * i].max() < 12, "a clear pixel in the face"
        assert abs(frame[240, 20].astype(int) - [90, 100, 110]).max() < 8


def annexb(path: Path, *parts: tuple[ByteArray, str]) -> Path:
    """Raw H.264 of several pieces, each with its display orientation as the filter of that name states it."""
    content = b""
    for number, (image, orientation) in enumerate(parts):
        piece = write_video(path.with_name(f"{number}.h264"), [image] * 3)
        content += turned_by_sei(piece, orientation) if orientation else piece.read_bytes()
    path.write_bytes(content)
    return path


def turned_by_sei(path: Path, orientation: str) -> bytes:
    from av.bitstream import BitStreamFilterContext

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        change = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{orientation}", stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        return b"".join(bytes(new) for packet in packets for new in change.filter(packet))


def test_a_matrix_or_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    """Decoders tell of an orientation in the stream with some frames only: nobody can say which way the others go."""
    turns = annexb(tmp_path / "turns.h264", (four_colours(), ""), (four_colours(), "rotate=180"))
    with pytest.raises(UserError, match=r"changes its display matrix in frame 4") as refused:
        list(Video(turns).frames())
    assert f"ffmpeg -i {turns} -pix_fmt yuv420p even.mp4" in refused.value.hint
    grows = annexb(tmp_path / "grows.h264", (four_colours(), ""), (four_colours(96, 128), ""))
    with pytest.raises(UserError, match="changes its size, from 96x64 to 128x96, in frame 4") as refused:
        list(Video(grows).frames())
    assert "-vf scale=96:64" in refused.value.hint
    same = annexb(tmp_path / "same.h264", (four_colours(), ""), (four_colours()[::-1].copy(), ""))
    assert len(list(Video(same).frames())) == 6


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(8, 9), Fraction(1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_pixels_become_square(aspect: Fraction, suffix: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / f"in{suffix}", [four_colours()] * 2, aspect=aspect)
    expected = (64, round(96 * aspect)) if aspect >= 1 else (round(64 / aspect), 96)
    assert [frame.image.shape[:2] for frame in Video(source).frames()] == [expected] * 2


def test_pixels_are_widened_before_they_are_turned(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [four_colours()], aspect=Fraction(4, 3), turn=matrix(0, 1, -1, 0))
    (frame,) = Video(source).frames()
    assert frame.image.shape == (128, 64, 3) and corners(frame.image) == "BRWG"


def test_pixels_of_a_broken_shape_are_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", [four_colours()], aspect=Fraction(50, 1))
    with pytest.raises(UserError, match="has pixels of 50:1"):
        list(Video(source).frames())


# Transparency


def with_hole(hole: int) -> ByteArray:
    """48x64, opaque but for some pixels."""
    image = np.dstack([NOISE[0], np.full((48, 64), 255, np.uint8)])
    image[:hole, :hole, 3] = 0
    return image


ALPHA = [
    ("qtrle", "argb", ".mov"), ("png", "rgba", ".mov"), ("prores_ks", "yuva444p10le", ".mov"),
    ("ffv1", "yuva420p", ".avi"), ("ffv1", "rgba64le", ".mkv"), ("rawvideo", "bgra", ".avi"), ("apng", "rgba", ".apng"),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "kind", "suffix"), ALPHA)
def test_transparency_is_refused_and_an_opaque_alpha_is_not(codec: str, kind: str, suffix: str, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    opaque = write_video(tmp_path / f"opaque{suffix}", [with_hole(0)] * 3, codec, kind)
    assert len(list(Video(opaque).frames())) == 3
    late = write_video(tmp_path / f"late{suffix}", [with_hole(0), with_hole(0), with_hole(4)], codec, kind)
    with pytest.raises(UserError, match="is transparent in places, in frame 3: what transparency hides") as refused:
        list(Video(late).frames())
    assert f"ffmpeg -i {late} -vf premultiply=inplace=1,format=yuv420p flat.mp4" in refused.value.hint


@pytest.mark.parametrize("hole", [0, 12])
def test_a_gif(hole: int, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(with_hole(hole), shift, axis=1)) for shift in range(3)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    video = Video(tmp_path / "in.gif")
    if hole:
        with pytest.raises(UserError, match="is transparent in places, in frame 1"):
            list(video.frames())
    else:
        assert len(list(video.frames())) == 3


def test_an_alpha_that_is_kept_apart(tmp_path: Path) -> None:
    """The decoder does not see it; that the file says so must be enough."""
    if "libvpx-vp9" not in av.codecs_available:
        pytest.skip("this PyAV has no libvpx-vp9")
    source = write_video(tmp_path / "in.webm", [with_hole(8)] * 2, "libvpx-vp9", "yuva420p")
    with pytest.raises(UserError, match="says that parts of it are transparent") as refused:
        Video(source)
    assert f"ffmpeg -c:v libvpx-vp9 -i {source}" in refused.value.hint


def with_clean_aperture(path: Path, width: int, height: int) -> Path:
    """The MP4 with a ``clap`` box in the description of its pictures; its table of contents must be at the end."""
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    box = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = content.index(kind, content.index(b"moov")) - 4
        length = int.from_bytes(content[at : at + 4], "big")
        content = content[:at] + (length + 40).to_bytes(4, "big") + content[at + 4 :]
    content = content[: at + length] + box + content[at + length :]
    path.write_bytes(content)
    return path


def test_a_crop_that_the_container_states_is_refused(tmp_path: Path) -> None:
    """PyAV gives the whole picture: what was cut off would be published."""
    whole = with_clean_aperture(write_video(tmp_path / "whole.mp4", NOISE[:3]), 64, 48)
    assert len(list(Video(whole).frames())) == 3
    for width, height in ((40, 48), (64, 30)):
        cropped = with_clean_aperture(write_video(tmp_path / "in.mp4", NOISE[:3]), width, height)
        with pytest.raises(UserError, match="states a crop beside its pictures: what it cuts off") as refused:
            Video(cropped)
        assert f"ffmpeg -i {cropped} -pix_fmt yuv420p cropped.mp4" in refused.value.hint
    source = write_video(tmp_path / "in.mkv", [four_colours()] * 3)
    assert len(list(Video(source).frames())) == 3
    content = source.read_bytes()
    assert content.count(b"\x54\xb2\x81\x04") == 1  # a display unit becomes a crop of 4 pixels at the left
    source.write_bytes(content.replace(b"\x54\xb2\x81\x04", b"\x54\xcc\x81\x04"))
    with pytest.raises(UserError, match="states a crop beside its pictures"):
        Video(source)


# What could not be read


def cut(path: Path, share: float, zeros: bool = False) -> Path:
    """The file without its end, or with zeros there, as an interrupted download leaves it."""
    content = path.read_bytes()
    kept = content[: round(len(content) * share)]
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(kept + bytes(len(content) - len(kept)) * zeros)
    return short


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "libx264"), (".avi", "mpeg4"), (".flv", "flv")],
)
def test_a_file_that_is_cut_short(suffix: str, codec: str, zeros: bool, share: float, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    whole = write_video(tmp_path / f"in{suffix}", NOISE, codec, rate=25, **options)
    video = Video(whole)
    assert len(list(video.frames())) == 100
    assert (video.reading.expected, video.reading.cut_short, video.reading.failed) == (100, False, 0)
    video = Video(cut(whole, share, zeros))
    frames = len(list(video.frames()))
    assert frames == video.reading.frames and 0 < frames < 100 * share + 5
    if suffix != ".flv" or share < 0.9:  # less than half a second is told only where something else is wrong
        assert video.reading.cut_short and abs((video.reading.expected or 0) - 100) <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "how",
    [
        {"times": [*range(0, 60, 1), *range(60, 460, 10)]}, {"times": [0, 30, 31, *range(90, 187)]}, {"sound": 9.0},
        {"sound": 1.0}, {"seconds_before": 5}, {"seconds_before": -1}, {"rate": 1},
    ],
    ids=["two rates", "long gaps", "sound is longer", "sound is shorter", "starts late", "starts before 0", "slow"],
)  # fmt: skip
def test_no_false_alarm(how: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / f"in{suffix}", NOISE, **{"rate": 25, **how})
    video = Video(source)
    list(video.frames())
    assert not video.reading.cut_short and not video.reading.failed
    assert video.reading.expected == video.reading.frames and video.reading.frames in (100, 75)
    assert video.left_out == ["sound"] * ("sound" in how)


def test_no_false_alarm_where_nothing_is_promised(tmp_path: Path) -> None:
    for name in ("in.h264", "in.ts"):
        video = Video(write_video(tmp_path / name, NOISE, rate=25))
        assert len(list(video.frames())) == 100
        assert video.reading.expected is None and not video.reading.cut_short
    video = Video(write_video(tmp_path / "in.mp4", NOISE, rate=25, movflags="frag_keyframe+empty_moov"))
    assert len(list(video.frames())) == 100 and not video.reading.cut_short


def test_sound_alone_that_is_cut_is_no_matter(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "in.mp4", NOISE[:20], rate=25, sound=60, movflags="faststart")
    video = Video(cut(whole, 0.98))
    assert len(list(video.frames())) == 20 and not video.reading.cut_short


def test_a_part_in_the_middle_that_cannot_be_decoded(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", NOISE, rate=25)
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][40:43]
    content = bytearray(source.read_bytes())
    for at, size in places:
        content[at : at + size] = bytes(size)
    source.write_bytes(bytes(content))
    video = Video(source)
    frames = list(video.frames())
    assert 90 < len(frames) <= 100 and not video.reading.cut_short
    assert video.reading.failed + video.reading.damaged > 0
    assert video.reading.expected == 100


def test_frames_without_times_get_even_ones(tmp_path: Path) -> None:
    frames = list(Video(write_video(tmp_path / "in.h264", NOISE[:5], rate=25)).frames())
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_no_video_at_all(tmp_path: Path) -> None:
    cases = {"text.mp4": b"no video", "empty.mp4": b""}
    whole = write_video(tmp_path / "whole.mp4", NOISE[:9])  # its table of contents is at the end
    cases["no_table.mp4"] = whole.read_bytes()[:2000]
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not a video that can be read"):
            Video(tmp_path / name)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        add_sound(out, 1)
    with pytest.raises(UserError, match="holds no video"):
        Video(tmp_path / "sound.mp4")


def test_other_streams_are_named_and_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mp4"), "w") as out:
        streams = [out.add_stream(codec, rate=25) for codec in ("mjpeg", "libx264", "mpeg4")]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for stream, kind in zip(streams, ("yuvj420p", "yuv420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 64, 48, kind
        add_sound(out, 1)
        for stream, image, count in zip(streams, (NOISE[0], four_colours(48, 64), NOISE[1]), (1, 4, 4), strict=True):
            for _ in range(count):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode(None))
    video = Video(tmp_path / "in.mp4")
    assert sorted(video.left_out) == ["another video", "cover picture", "sound"]
    assert [corners(frame.image) for frame in video.frames()] == ["RGBW"] * 4 and not video.reading.cut_short


# Tracks


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
    done = protect_frame(room((60, 40, 140)), 0, cast, hold=3)
    assert (len(done.protected), len(done.black)) == (1, 0) and (done.image[45:175, 65:195] == 0).all()
    done = protect_frame(room((60, 40, 140)), 1, cast, hold=3)  # it is there, and the detector missed it
    assert (len(done.protected), len(done.black)) == (0, 1)
    assert (done.image[40:200, 60:200] == 0).all() and done.image[10, 10].any()
    done = protect_frame(room((60, 40, 140)), 9, cast, hold=3)
    assert not done.protected and not done.black and not done.held


def track_of(places: dict[int, tuple[float, float]]) -> Track:
    track: Track | None = None
    for frame, place in places.items():
        if track is None:
            track = Track(frame, face_at(*place))
        else:
            track.add(frame, face_at(*place))
    assert track is not None
    return track


@pytest.mark.parametrize(
    ("places", "held"),
    [
        ({0: (60, 40), 2: (66, 40)}, {1: (63, 40)}),
        ({0: (60, 40), 3: (66, 46)}, {1: (62, 42), 2: (64, 44)}),
        ({0: (60, 40), 4: (60, 40)}, {}),  # three frames
        ({0: (60, 40), 2: (95, 40)}, {}),  # 65 of 135 pixels are shared
        ({0: (60, 40), 2: (92, 40)}, {1: (76, 40)}),  # 68 of 132 are
        ({0: (60, 40), 1: (60, 40)}, {}),
        ({0: (60, 40)}, {}),  # nothing after it
    ],
)
def test_a_face_is_held_through_one_or_two_frames(
    places: dict[int, tuple[float, float]], held: dict[int, tuple[float, float]]
) -> None:
    track = track_of(places)
    for frame in range(-1, 6):
        found = track.held(frame)
        assert (found is not None) == (frame in held)
        if found is not None:
            assert np.allclose(found[0].points, face_at(*held[frame]).points)
            assert np.allclose(found[0].box, face_at(*held[frame]).box)


@pytest.mark.parametrize("at", [60, 63, 66, 70, 74, 80])
def test_no_clear_pixel_of_a_held_face_shines_through(at: int) -> None:
    """The face was at 60 and then at 74; between, it need not be halfway."""
    cast = [(track_of({0: (60, 40), 2: (74, 40)}), GreyOfTheKey(), torch.Generator())]
    image = room((at, 40, 140))
    done = protect_frame(image, 1, cast, hold=3)
    assert (len(done.held), len(done.protected), len(done.black)) == (1, 0, 0)
    there = np.zeros(image.shape[:2], bool)
    there[40:180, at : at + 140] = True
    changed = (done.image == 0).all(axis=2) | (done.image == done.image[110, 137]).all(axis=2)
    rim = (done.image[..., 0] == done.image[..., 1]) & (done.image[..., 1] == done.image[..., 2])
    assert (changed | rim)[there].all(), "a clear pixel shines through"
    assert done.image[110, 137].min() > 0, "the face is black, not protected"


@pytest.mark.parametrize(
    ("box", "covered"),
    [
        ((80, 60, 180, 160), True), ((60, 40, 200, 180), True), ((138, 60, 238, 160), True),
        ((146, 60, 246, 160), False), ((300, 0, 340, 40), False), ((0, 0, 280, 260), False),
    ],
)  # fmt: skip
def test_a_face_is_covered_by_three_fifths(box: tuple[float, float, float, float], covered: bool) -> None:
    image = room()
    assert ReleasedPicture(image, protected=[face_at(60, 40)]).covers(box) == covered
    assert ReleasedPicture(image, held=[face_at(60, 40)]).covers(box) == covered
    assert ReleasedPicture(image, black=[(60, 40, 200, 180)]).covers(box) == covered
    assert ReleasedPicture(image, beneath=[(60, 40, 130, 180)], black=[(130, 40, 200, 180)]).covers(box) == covered
    assert not ReleasedPicture(image).covers(box)


def test_a_user_s_key_is_one_a_track_and_another_for_another() -> None:
    keys = []
    for seed in (1, 1, 2):
        own = for_one_person(GreyOfTheKey(), torch.Generator().manual_seed(seed))
        keys.append(own.config.secret)
    assert keys[0] == keys[1] != keys[2]
    session = blackout()
    assert for_one_person(session, torch.Generator()) is session


# The whole way


@pytest.mark.assets
def test_a_video(tmp_path: Path) -> None:
    seen = [(40 + 6 * i, 40, 140) for i in range(12)]
    frames = [room(at) for at in seen]
    frames[3] = frames[6] = frames[7] = frames[8] = room()  # the face is lost for a frame, and for three
    source = write_video(tmp_path / "in.mp4", frames, sound=1)
    report = protect_video(GreyOfTheKey(), source, tmp_path / "out.mp4", seed=5)
    assert (report.frames, report.frames_expected, report.tracks, report.left_out) == (12, 12, 1, ["sound"])
    assert (report.protected, report.held, report.hidden, report.frames_hidden) == (8, 1, 3, 3)
    assert report.checked and report.frames_clear == 0 and report.warnings() == []
    out = read_video(tmp_path / "out.mp4")
    levels = [frame[70:150, at[0] + 30 : at[0] + 110].astype(int) for frame, at in zip(out, seen, strict=True)]
    assert max(levels[n].max() for n in (6, 7, 8)) < 12, "the lost face's place is not black"
    greys = [level.mean() for n, level in enumerate(levels) if n not in (6, 7, 8)]
    assert max(greys) - min(greys) < 4, "not one key through the track"
    assert all(level.std() < 4 for n, level in enumerate(levels) if n not in (6, 7, 8))
    again = protect_video(GreyOfTheKey(), source, tmp_path / "again.mp4", seed=5)
    assert again == report and (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mp4", "in.mp4", "out.mp4"]


def with_a_missed_face(tmp_path: Path, missed: Sequence[int] = (3, 4, 6)) -> Path:
    """Ten frames of a face; in some, another of 44 pixels, too small for the first detector as it is called."""
    frames = [room((20, 20, 140), *([(210, 180, 44)] if n in missed else [])) for n in range(10)]
    assert len(find_faces(frames[missed[0]], 48)) == 1
    return write_video(tmp_path / "in.mp4", frames)


@pytest.mark.assets
def test_a_face_left_clear_is_told(tmp_path: Path) -> None:
    source, target = with_a_missed_face(tmp_path), tmp_path / "out.mp4"
    report = protect_video(blackout(), source, target)
    assert (report.checked, report.frames_clear, report.clear_frames) == (True, 3, [4, 5, 7])
    assert report.first_clear is not None and report.worst_clear is not None
    assert (report.first_clear["frame"], report.first_clear["seconds"]) == (4, 0.75)
    assert 24 <= report.worst_clear["pixels"] <= 60
    assert report.next == "Look for smaller ones:  --smallest 24"
    (warning,) = report.warnings()
    assert "a face left clear in 3 of 10 frames, first in frame 4 (0.75 s)" in warning
    run = CliRunner().invoke(app, ["protect", "blackout", str(source), str(target), "--workers", "1"])
    assert run.exit_code == 1 and target.is_file()
    assert "--smallest 24" in run.stderr and "3 of 10 frames" in run.stderr
    run = CliRunner().invoke(app, ["protect", "blackout", str(source), str(target), "--workers", "1", "--json"])
    facts = json.loads(run.stdout)
    assert run.exit_code == 1 and facts["clear_frames"] == [4, 5, 7] and facts["next"] == report.next
    better = ["protect", "blackout", str(source), str(target), "--workers", "1", "--smallest", "24"]
    run = CliRunner().invoke(app, better)
    assert run.exit_code == 0 and "A second detector finds no face left clear." in run.stdout


@pytest.mark.assets
def test_a_face_that_is_never_found_gets_a_command_that_blacks_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a face turned away: large, and found by the second detector alone."""
    frames = [room((20, 20, 140), *([(160, 130, 110)] if n in (3, 4) else [])) for n in range(10)]
    source, target = write_video(tmp_path / "in.mp4", frames), tmp_path / "out.mp4"
    monkeypatch.setattr(module, "find_faces", lambda image, smallest: find_faces(image, smallest)[:1])
    report = protect_video(blackout(), source, target)
    assert report.clear_frames == [4, 5] and "ffmpeg" in report.next and "between(t,0.25,1.50)" in report.next
    if shutil.which("ffmpeg"):
        command = report.next.partition("out:  ")[2].replace("new.mp4", str(tmp_path / "new.mp4"))
        subprocess.run([*shlex.split(command), "-v", "error"], check=True)
        new = read_video(tmp_path / "new.mp4")
        assert all(frame[140:230, 170:260].max() < 12 for frame in new[3:5]) and new[9][140:230, 170:260].min() > 60


def test_that_nobody_looked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("this needs onnxruntime, which is not installed", "pip install 'ppfr-bench[onnx]'")

    monkeypatch.setattr(second_detector, "load", missing)
    monkeypatch.setattr(module, "find_faces", lambda image, smallest: [face_at(60, 40)])
    source = write_video(tmp_path / "in.mp4", [room((60, 40, 140))] * 3)
    command = ["protect", "blackout", str(source), str(tmp_path / "out.mp4"), "--workers", "1"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0 and "A second detector finds no face" not in run.stdout
    assert "No second detector looked for faces left clear: this needs onnxruntime" in run.stderr
    assert "pip install 'ppfr-bench[onnx]'" in run.stderr
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert facts["checked"] is False and "onnxruntime" in facts["not_checked"]


def always_found(image: ByteArray, smallest: float) -> list[Face]:
    return [face_at(60, 40)]


@pytest.fixture
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face is found in every frame, and nobody looks again."""

    def missing() -> None:
        raise Unavailable("nobody looks in this test", "")

    monkeypatch.setattr(module, "find_faces", always_found)
    monkeypatch.setattr(second_detector, "load", missing)


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_is_cut_short_is_told(suffix: str, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source = cut(write_video(tmp_path / f"in{suffix}", NOISE, rate=25, **options), 0.6)
    target = tmp_path / "out.mp4"
    command = ["protect", "blackout", str(source), str(target), "--workers", "1"]
    run = CliRunner().invoke(app, command)
    frames = len(read_video(target))
    assert run.exit_code == 1 and 45 < frames < 70
    assert f"the file is cut short: {frames} of 100 frames could be read" in run.stderr
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (facts["frames"], facts["frames_expected"], facts["cut_short"]) == (frames, 100, True)


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("size", [(261, 281), (260, 281), (261, 280), (3, 3)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    frames = [np.resize(NOISE[0], (*size, 3))] * 2
    source = write_video(tmp_path / "in.mkv", frames, "ffv1", "bgr0")
    protect_video(blackout(), source, tmp_path / "out.mp4")
    assert [frame.shape for frame in read_video(tmp_path / "out.mp4")] == [(size[0] // 2 * 2, size[1] // 2 * 2, 3)] * 2


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("before", [-1, 0, 5])
def test_the_first_frame_is_at_time_zero(before: int, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", NOISE[:8], rate=4, seconds_before=before)
    protect_video(blackout(), source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert next(container.decode(video=0)).time == 0


# What is refused leaves no file


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.assets
def test_a_video_that_cannot_be_protected_leaves_no_file(tmp_path: Path) -> None:
    empty = write_video(tmp_path / "empty.mp4", [room()] * 3)
    with pytest.raises(UserError, match=r"no face was found in 3 frames.*Nothing was written"):
        protect_video(blackout(), empty, tmp_path / "out.mp4")
    (tmp_path / "text.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="is not a video that can be read"):
        protect_video(blackout(), tmp_path / "text.mp4", tmp_path / "out.mp4")
    with pytest.raises(UserError, match=r"ends in \.mp4"):
        protect_video(blackout(), empty, tmp_path / "out.gif")
    with pytest.raises(UserError, match="expected a video"):
        protect_video(blackout(), tmp_path / "none.mp4", tmp_path / "out.mp4")
    assert left(tmp_path) == ["empty.mp4", "text.mp4"]


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("kind", ["itself", "hard link", "symbolic link", "link to the folder"])
def test_the_source_is_no_target_by_any_name(kind: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [room()] * 2)
    target = tmp_path / "out.mp4"
    if kind == "hard link":
        target.hardlink_to(source)
    elif kind == "symbolic link":
        target.symlink_to(source)
    elif kind == "link to the folder":
        (tmp_path / "other").symlink_to(tmp_path)
        target = tmp_path / "other" / "in.mp4"
    else:
        target = tmp_path / "." / "in.mp4"
    before, names = source.read_bytes(), left(tmp_path)
    with pytest.raises(UserError, match=r"is the source.*Nothing was written"):
        protect_video(blackout(), source, target)
    assert source.read_bytes() == before and left(tmp_path) == names


@pytest.mark.usefixtures("one_face")
def test_a_folder_is_made_for_the_target_or_it_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [room()] * 2)
    protect_video(blackout(), source, tmp_path / "new" / "deeper" / "out.mp4")
    assert left(tmp_path / "new") == ["deeper", "deeper/out.mp4"]
    with pytest.raises(UserError, match="is a file, expected a folder"):
        protect_video(blackout(), source, source / "out.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match="is a folder, expected a file"):
        protect_video(blackout(), source, tmp_path / "folder.mp4")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(UserError, match="cannot be written to"):
            protect_video(blackout(), source, tmp_path / "closed" / "out.mp4")


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("error", [UserError("it fails"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_goes_wrong_leaves_no_file_and_no_folder(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "in.mp4", [room((60, 40, 140))] * 6)
    calls = []

    def fails_at_the_fourth(*given: Any) -> ReleasedPicture:
        calls.append(given)
        if len(calls) == 4:
            raise error
        return protect_frame(*given)

    monkeypatch.setattr(module, "protect_frame", fails_at_the_fourth)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError) as raised:
        protect_video(blackout(), source, tmp_path / "new" / "out.mp4")
    assert isinstance(error, KeyboardInterrupt) or "Nothing was written" in str(raised.value)
    assert left(tmp_path) == ["in.mp4"]


@pytest.mark.usefixtures("one_face")
def test_a_defense_that_lets_one_frame_out_clear_fails(tmp_path: Path) -> None:
    """An earlier result stays as it was."""
    source, target = write_video(tmp_path / "in.mp4", [room((60, 40, 140))] * 6), tmp_path / "out.mp4"
    target.write_bytes(b"earlier")
    with pytest.raises(UserError, match=r"lets clear images out: a face of frame 3.*Nothing was written"):
        protect_video(ClearAfter(), source, target)
    assert left(tmp_path) == ["in.mp4", "out.mp4"] and target.read_bytes() == b"earlier"


@pytest.mark.usefixtures("one_face")
def test_times_that_do_not_follow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "in.mp4", [room()] * 3)
    frames = list(Video(source).frames())

    def in_another_order(video: Video) -> Iterator[Frame]:
        video.reading.frames = 3
        return iter([frames[0], frames[2], frames[1]])

    monkeypatch.setattr(Video, "frames", in_another_order)
    with pytest.raises(UserError, match="the time of frame 3 does not follow the one before"):
        protect_video(blackout(), source, tmp_path / "out.mp4")
    assert left(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_a_list_of_other_files_is_no_video(kind: str, tmp_path: Path) -> None:
    """A playlist would bring in, and publish, files that its receiver never named."""
    secret = write_video(tmp_path / "secret.ts", [room((60, 40, 140))] * 3)
    text = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret.name}'\n",
    }[kind]
    (tmp_path / "in.mp4").write_text(text)
    with pytest.raises(UserError, match=r"is not a video that can be read.*Nothing was written"):
        protect_video(blackout(), tmp_path / "in.mp4", tmp_path / "out.mp4")
