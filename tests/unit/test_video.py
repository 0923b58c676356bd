"""Videos are read as a player shows them, or refused, and what could not be read is told."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_videos import (
    LAST,
    NOISE,
    ONE,
    TURNS,
    add_sound,
    av,
    blackout,
    corners,
    cut,
    four_colours,
    matrix,
    read_video,
    room,
    with_matrix,
    write_video,
)
from PIL import Image

from ppfr_bench.api import ByteArray, UserError
from ppfr_bench.protection.video import protect_video
from ppfr_bench.protection.video_file import Video, quarter_turn, turned

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
