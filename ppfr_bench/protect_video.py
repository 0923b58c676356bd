"""Protect every face of a video, frame by frame, one person one key; where a face is lost, its place is blacked out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from ppfr_bench.api import ByteArray, Defense, per_image_generators
from ppfr_bench.console import Steps
from ppfr_bench.datasets.detection import Face, crop, find_faces
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.parallel import ordered
from ppfr_bench.protect import check_releases_images, for_one_person, learn, release, start
from ppfr_bench.protect_picture import blend

Box = tuple[float, float, float, float]

OVERLAP = 0.3  # intersection over union beyond which two boxes of neighbouring frames are one face
_HOLD = 1.0  # seconds that a face's place stays hidden before it was first found, and after it was last found
_GROWTH = 0.4, 0.05, 1.0  # of the box's side: the hidden margin at once, more a frame, and at most
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


class Track:
    """One face through a video; ``faces``: frame -> where it was found, frames ascending."""

    def __init__(self, frame: int, face: Face) -> None:
        self.faces = {frame: face}
        self._at = [frame]

    @property
    def last(self) -> int:
        """The last frame in which it was found."""
        return self._at[-1]

    def add(self, frame: int, face: Face) -> None:
        """Found again, in a later frame."""
        self.faces[frame] = face
        self._at.append(frame)

    def hidden(self, frame: int, hold: int) -> Box | None:
        """The region to black out in a frame where the face was not found, None where nothing is known of it there.

        It spans the places before and after, with a margin that grows with the frames between.
        """
        place = bisect_left(self._at, frame)
        if place < len(self._at) and self._at[place] == frame:
            return None
        near = self._at[max(0, place - 1) : place + 1]
        if len(near) == 1 and abs(near[0] - frame) > hold:
            return None
        boxes = [self.faces[at].box for at in near]
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
        at_once, more, most = _GROWTH
        margin = min(most, at_once + more * min(abs(at - frame) for at in near)) * max(right - left, bottom - top)
        return left - margin, top - margin, right + margin, bottom + margin


@dataclass(frozen=True)
class Report:
    """Frames of the video, tracks, faces protected, regions blacked out, and the frames with at least one of them."""

    frames: int
    tracks: int
    protected: int
    hidden: int
    frames_hidden: int


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

    A face that dlib's detector finds is followed by the overlap of its boxes: a track. Every track has a generator of
    its own, and a key of its own if the defense's is a user's. Each face is aligned, protected and blended back. In a
    frame of a track where the face is not found, and for a second before its first and after its last one, its last
    known place is black, and counted. Faces that are found in no frame are not protected.

    A defense whose randomness is fresh each time draws anew in every frame, as its contract says: what can be averaged
    away over the frames is its weakness.

    Args:
        smallest: side in pixels of the smallest face to look for; half as large takes four times as long.
        workers: processes that look for faces.

    Raises:
        UserError: no video, a container that is not written (.mp4, .m4v, .mov, .mkv are), no face in any frame, or a
            defense that releases no images. No file is left then.
        Unavailable: PyAV or dlib is missing, or what a defense that learns needs.
    """
    check_releases_images(defense)
    if target.suffix.lower() not in _CONTAINERS:
        raise UserError(f"{target}: expected a name that ends in {', '.join(_CONTAINERS)}", "For example:  out.mp4")
    if target.exists() and target.resolve() == source.resolve():
        raise UserError(f"{target} is the source", "Choose another name.")
    av = _av()
    with Steps(0, "looking for faces", "frames") as steps:
        found = []
        for faces in ordered(partial(_look, smallest), (image for image, _ in _frames(av, source)), workers):
            found.append(faces)
            steps.advance()
    tracks = follow(found, hold := max(1, round(_HOLD * _rate(av, source))))
    if not tracks:
        raise UserError(
            f"no face was found in {len(found)} frames of {source}", "Look for smaller ones:  --smallest 24"
        )
    generator = start(seed)
    learn(defense, generator)
    own = per_image_generators(generator, len(tracks))
    cast = [(track, for_one_person(defense, one), one) for track, one in zip(tracks, own, strict=True)]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        report = _rewrite(av, source, temporary, _CONTAINERS[target.suffix.lower()], cast, hold, len(found))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def follow(frames: Sequence[Sequence[Face]], patience: int) -> list[Track]:
    """Faces of every frame -> tracks: the boxes that overlap most first; a lost face waits ``patience`` frames."""
    tracks: list[Track] = []
    for number, faces in enumerate(frames):
        alive = [track for track in tracks if number - track.last - 1 <= patience]
        known, seen = (
            torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
            for boxes in ([track.faces[track.last].box for track in alive], [face.box for face in faces])
        )
        shared = box_iou(known, seen)
        taken_tracks, taken_faces = set[int](), set[int]()
        for place in shared.flatten().argsort(descending=True, stable=True).tolist():
            t, f = divmod(place, len(faces))
            if shared[t, f] >= OVERLAP and t not in taken_tracks and f not in taken_faces:
                alive[t].add(number, faces[f])
                taken_tracks.add(t)
                taken_faces.add(f)
        tracks += [Track(number, face) for f, face in enumerate(faces) if f not in taken_faces]
    return tracks


def protect_frame(
    image: ByteArray, number: int, cast: Sequence[tuple[Track, Defense, torch.Generator]], hold: int
) -> tuple[ByteArray, int, int]:
    """A frame uint8 (h, w, 3) as it is released, and how many of its faces were protected, and how many hidden."""
    out, protected, hidden = image.copy(), 0, 0
    for track, _, _ in cast:
        if (region := track.hidden(number, hold)) is not None:
            left, top, right, bottom = (max(0, round(side)) for side in region)
            out[top:bottom, left:right] = 0
            hidden += 1
    for track, defense, generator in cast:  # over what is black: a crop is taken from the frame itself
        if (face := track.faces.get(number)) is not None:
            blend(out, release(defense, crop(image, face.points)[None], generator)[0], face.points)
            protected += 1
    return out, protected, hidden


def _look(smallest: float, image: ByteArray) -> list[Face]:
    return find_faces(image, smallest)


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise Unavailable("protecting a video needs PyAV", "pip install 'ppfr-bench[video]'") from error
    loaded: ModuleType = av
    return loaded


def _frames(av: Any, source: Path) -> Iterator[tuple[ByteArray, Any]]:
    """Every frame as it is to be seen, uint8 (h, w, 3), and PyAV's own."""
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise UserError(f"{source} holds no video", "Give a video, or a folder of aligned faces.")
            for frame in container.decode(container.streams.video[0]):
                image = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90))), frame
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{source} is not a video that can be read: {error}", "Nothing was written.") from error


def _rate(av: Any, source: Path) -> float:
    with av.open(str(source)) as container:
        return float(container.streams.video[0].average_rate or 25)


def _rewrite(
    av: Any,
    source: Path,
    target: Path,
    container: str,
    cast: Sequence[tuple[Track, Defense, torch.Generator]],
    hold: int,
    expected: int,
) -> Report:
    protected = hidden = frames_hidden = number = 0
    first = last = None
    with av.open(str(target), "w", format=container) as out, Steps(expected, "protecting", "frames") as steps:
        stream = None
        for number, (image, frame) in enumerate(_frames(av, source), start=1):
            image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # H.264 wants even sides
            if stream is None:
                stream = _stream(av, out, image, frame)
            released, faces, black = protect_frame(image, number - 1, cast, hold)
            protected, hidden, frames_hidden = protected + faces, hidden + black, frames_hidden + (black > 0)
            made = av.VideoFrame.from_ndarray(released, format="rgb24")
            if frame.pts is None:
                raise UserError(f"{source}: frame {number} has no time", "Convert it first.")
            first = frame.pts if first is None else first
            made.pts, made.time_base = frame.pts - first, frame.time_base
            if last is not None and made.pts <= last:
                raise UserError(
                    f"{source}: the time of frame {number} does not follow the one before", "Convert it first."
                )
            last = made.pts
            out.mux(stream.encode(made))
            steps.advance()
        if number != expected or stream is None:
            raise UserError(f"{source}: {expected} frames at first, {number} now", "Is it still being written?")
        out.mux(stream.encode(None))
    return Report(number, len(cast), protected, hidden, frames_hidden)


def _stream(av: Any, out: Any, image: ByteArray, frame: Any) -> Any:
    best = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = out.add_stream(best, rate=None, options={"crf": "18"} if best == "libx264" else {"qscale": "3"})
    stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
    stream.codec_context.time_base = frame.time_base
    stream.time_base = frame.time_base
    return stream
