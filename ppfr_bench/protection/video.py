"""Protect every face of a video, frame by frame, one person one key; where a face is lost, its place is blacked out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppfr_bench.api import ByteArray, Defense, per_image_generators
from ppfr_bench.console import Steps
from ppfr_bench.datasets.detection import Face, crop, find_faces
from ppfr_bench.datasets.second_detector import find_again, why_not_checked
from ppfr_bench.errors import UserError
from ppfr_bench.parallel import ordered
from ppfr_bench.protection.face_tracks import Box, Track, follow
from ppfr_bench.protection.folder import check_releases_images, for_one_person, learn, start
from ppfr_bench.protection.picture import ReleasedPicture, blend
from ppfr_bench.protection.video_file import Frame, Video
from ppfr_bench.protection.video_report import ClearFaces, Report
from ppfr_bench.stages.release import release
from ppfr_bench.text import printable

Cast = Sequence[tuple[Track, Defense, Any]]

_HOLD = 1.0  # A face's place stays hidden so many seconds before it is found and after.
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


def protect_video(
    defense: Defense,
    source: Path,
    target: Path,
    seed: int | None = None,
    *,
    smallest: float = 48,
    workers: int = 1,
) -> Report:
    """Write ``source`` to ``target`` with every face that is found protected: H.264, no sound, no metadata.

    The video is taken as a player shows it: see ``ppfr_bench.protection.video_file``. A face that dlib's detector
    finds is followed by
    the overlap of its boxes: a track. Every track has a generator of its own, and a key of its own if the defense's is
    a user's. Each face is aligned, protected and blended back. In a gap of one or two frames it is held: its landmarks
    lie between those before and after, over black. In a frame of a longer gap, and for a second before a track's first
    face and after its last one, its last known place is black, and counted.

    Faces that dlib finds in no frame are not protected. A second detector, which knows nothing of the first, looks for
    them in every frame: see ``ppfr_bench.datasets.second_detector``. It looks at the clear frames, and what it finds is
    compared with what was protected or blacked out there: a face of which less than 60% was is left clear. On the
    released frames it would find as many of those that are wholly clear (100 of 100), but miss what is clear in part:
    of 100 faces with black over two fifths it finds 100 in the clear frame, and 51 in the released one.

    A defense whose randomness is fresh each time draws anew in every frame, as its contract says: what can be averaged
    away over the frames is its weakness.

    Args:
        smallest: side in pixels of the smallest face to look for; half as large takes four times as long.
        workers: processes that look for faces.

    Raises:
        UserError: no video, or one that ``ppfr_bench.protection.video_file`` refuses; a container that is not written
            (.mp4, .m4v,
            .mov, .mkv are), no face in any frame, a target that is the source or cannot be written, a defense that
            releases no images, or a release that ``release`` refuses. Nothing is written then.
        Unavailable: PyAV or dlib is missing, or what a defense that learns needs.
    """
    with _nothing_written():
        check_releases_images(defense)
        _check_target(source, target)
        video = Video(source)
        not_checked = why_not_checked()
        found, others = _look_through(video, smallest, not not_checked, workers)
        tracks = follow(found, hold := max(1, round(_HOLD * video.rate)))
        if not tracks:
            raise UserError(
                f"no face was found in {len(found)} frames of {printable(source)}",
                "Look for smaller ones:  --smallest 24",
            )
        reading = video.reading
        generator = start(seed)
        learn(defense, generator)
        own = per_image_generators(generator, len(tracks))
        cast = [(track, for_one_person(defense, one), one) for track, one in zip(tracks, own, strict=True)]
        report = Report.of(reading, len(tracks), video.left_out, not_checked)
        clear = ClearFaces(smallest, printable(target))
        with _written_whole(target) as temporary:
            _rewrite(video, temporary, _CONTAINERS[target.suffix.lower()], cast, hold, others, report, clear)
        clear.tell(report)
        return report


def protect_frame(image: ByteArray, number: int, cast: Cast, hold: int) -> ReleasedPicture:
    """A frame uint8 (h, w, 3), counted from 0, as it is released.

    Raises:
        UserError: as ``release``.
    """
    done = ReleasedPicture(image.copy())
    for track, _, _ in cast:
        if (held := track.held(number)) is not None:
            done.beneath.append(held[1])
        elif (region := track.hidden(number, hold)) is not None:
            done.black.append(region)
    for region in (*done.black, *done.beneath):
        left, top, right, bottom = (max(0, round(side)) for side in region)
        done.image[top:bottom, left:right] = 0
    # Protected faces go over the black; their crops are taken from the frame itself.
    for track, defense, generator in cast:
        face, faces = track.faces.get(number), done.protected
        if face is None and (held := track.held(number)) is not None:
            face, faces = held[0], done.held
        if face is not None:
            taken = crop(image, face.points)[None]
            blend(done.image, release(defense, taken, generator, [f"a face of frame {number + 1}"])[0], face.points)
            faces.append(face)
    return done


def _look_through(video: Video, smallest: float, check: bool, workers: int) -> tuple[list[list[Face]], list[list[Box]]]:
    """What the two detectors find in every frame."""
    found, others = [], []
    with Steps(0, "looking for faces", "frames") as steps:
        for faces, boxes in ordered(partial(_look, smallest, check), (f.image for f in video.frames()), workers):
            found.append(faces)
            others.append(boxes)
            steps.advance()
    return found, others


def _look(smallest: float, check: bool, image: ByteArray) -> tuple[list[Face], list[Box]]:
    faces = find_faces(image, smallest)
    return faces, find_again(image, ReleasedPicture(image, faces).covers) if check else []


def _rewrite(
    video: Video,
    target: Path,
    container: str,
    cast: Cast,
    hold: int,
    others: Sequence[Sequence[Box]],
    report: Report,
    clear: ClearFaces,
) -> None:
    """Write every frame as it is released, and count what was done."""
    with _Writer(target, container) as writer, Steps(report.frames, "protecting", "frames") as steps:
        for number, frame in enumerate(video.frames()):
            if number == report.frames:
                break
            done = protect_frame(frame.image, number, cast, hold)
            time = writer.write(frame, done.image)
            report.count(len(done.protected), len(done.held), len(done.black))
            clear.add(number, time, [box for box in others[number] if not done.covers(box)])
            steps.advance()
    if writer.frames != report.frames or video.reading.frames != report.frames:
        raise UserError(
            f"{printable(video.path)}: {report.frames} frames at first, another number now",
            "Is it still being written?",
        )


class _Writer:
    """H.264 without anything else in the file; the first frame is at time 0."""

    def __init__(self, target: Path, container: str) -> None:
        import av

        self._av: Any = av
        self._target, self._container, self.frames = target, container, 0
        self._stream: Any = None
        self._first = self._last = 0

    def __enter__(self) -> _Writer:
        with self._explained():
            self._out = self._av.open(str(self._target), "w", format=self._container)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._explained() if kind is None else suppress(Exception):
            if self._stream is not None and kind is None:
                self._out.mux(self._stream.encode(None))
            self._out.close()

    def write(self, frame: Frame, image: ByteArray) -> float:
        """One frame more; gives its time in seconds.

        Raises:
            UserError: a time that does not follow the one before, or the file cannot be written.
        """
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # H.264 wants even sides.
        if not image.size:
            raise UserError(
                f"expected frames of at least 2x2, got {frame.image.shape[1]}x{frame.image.shape[0]}",
                "Give a larger video.",
            )
        made = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._first = frame.pts if not self.frames else self._first
        made.pts, made.time_base = frame.pts - self._first, frame.time_base
        if self.frames and made.pts <= self._last:
            raise UserError(
                f"the time of frame {self.frames + 1} does not follow the one before",
                "Give it even times first:  ffmpeg -i IN -r 25 new.mp4",
            )
        self._last, self.frames = made.pts, self.frames + 1
        with self._explained():
            self._stream = self._stream or self._add(image, frame)
            self._out.mux(self._stream.encode(made))
        return float(made.pts * frame.time_base)

    def _add(self, image: ByteArray, frame: Frame) -> Any:
        best = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream = self._out.add_stream(best, rate=None, options={"crf": "18"} if best == "libx264" else {"qscale": "3"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        stream.codec_context.time_base = frame.time_base
        stream.time_base = frame.time_base
        return stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"the video cannot be written: {error}", "Is there room on the disk?") from error


def _check_target(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError(f"expected a video, got {printable(source)}", "Give a file.")
    if target.suffix.lower() not in _CONTAINERS:
        raise UserError(
            f"{printable(target)}: expected a name that ends in {', '.join(_CONTAINERS)}", "For example:  out.mp4"
        )
    if target.exists() and target.samefile(source):
        raise UserError(f"{printable(target)} is the source, {printable(source)}", "Choose another name.")
    if target.is_dir():
        raise UserError(f"{printable(target)} is a folder, expected a file", "Choose another name.")
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written to" if folder.is_dir() else "is a file, expected a folder"
        raise UserError(f"{printable(target)} cannot be made: {printable(folder)} {what}", "Choose another place.")


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """A temporary name beside ``target``, which becomes ``target`` if all goes well; else no file or folder is left."""
    made = [parent for parent in target.absolute().parents if not parent.exists()]
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(target)
        except OSError as error:
            raise UserError(
                f"cannot write {printable(target)}: {error.strerror or error}",
                "Free some space, or choose another place.",
            ) from error
    except BaseException:  # Ctrl-C leaves no half-written file either.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def _nothing_written() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise type(error)(f"{error.message}. Nothing was written", error.hint) from error
