"""Faces of a video: protected where they are found, black where they are lost, told of where they are left clear."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_videos import (
    NOISE,
    ClearAfter,
    GreyOfTheKey,
    av,
    blackout,
    cut,
    face_at,
    read_video,
    room,
    write_video,
)
from typer.testing import CliRunner

from ppfr_bench.api import ByteArray, UserError
from ppfr_bench.cli import app
from ppfr_bench.datasets import second_detector
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face, find_faces
from ppfr_bench.errors import Unavailable
from ppfr_bench.protection import video as module
from ppfr_bench.protection.face_tracks import Track, follow
from ppfr_bench.protection.folder import for_one_person
from ppfr_bench.protection.picture import ReleasedPicture
from ppfr_bench.protection.video import protect_frame, protect_video
from ppfr_bench.protection.video_file import Frame, Video

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
