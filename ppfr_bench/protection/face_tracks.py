"""Faces followed through a video, and where each is in the frames in which it was not found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from ppfr_bench.api import SIZE
from ppfr_bench.datasets.alignment import similarity
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face, Points

Box = tuple[float, float, float, float]

OVERLAP = 0.3  # Boxes of neighbouring frames are one face beyond this intersection over union.
HELD = 2  # A face that is found before and after is held over so many frames without it.
HELD_OVERLAP = 0.5  # The boxes before and after such a gap have at least this intersection over union.
_GROWTH = 0.4, 0.05, 1.0  # Shares of the box's side: the hidden margin at once, more a frame, at most.
_HELD_MARGIN = 0.05  # Share of the box's side that is black around a held face, plus half its way.


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

    def held(self, frame: int) -> tuple[Face, Box] | None:
        """Where the face must be in a short gap: halfway between before and after, and what to black out beneath.

        None unless it was found at most ``HELD`` frames before and after, in boxes that overlap by ``HELD_OVERLAP``.
        The black spans the crops before and after with a margin that grows with the way between them, so that a face
        that did not move evenly does not show at the rim of the crop.
        """
        near = self._near(frame)
        if len(near) < 2 or near[1] - near[0] - 1 > HELD:
            return None
        before, after = (self.faces[at] for at in near)
        if overlap(before.box, after.box) < HELD_OVERLAP:
            return None
        share = (frame - near[0]) / (near[1] - near[0])
        box = tuple(a + share * (b - a) for a, b in zip(before.box, after.box, strict=True))
        points = before.points + share * (after.points - before.points)
        moved = float(np.abs(np.subtract(before.box, after.box)).max())
        around = hull([before.box, after.box, _crop_box(before.points), _crop_box(after.points), _crop_box(points)])
        margin = _HELD_MARGIN * (box[2] - box[0]) + moved / 2
        return Face((box[0], box[1], box[2], box[3]), points), grown(around, margin)

    def hidden(self, frame: int, hold: int) -> Box | None:
        """The region to black out in a frame where the face was not found, None where nothing is known of it there.

        It spans the places before and after, with a margin that grows with the frames between.
        """
        near = self._near(frame)
        if not near or (len(near) == 1 and abs(near[0] - frame) > hold):
            return None
        box = hull([self.faces[at].box for at in near])
        at_once, more, most = _GROWTH
        margin = min(most, at_once + more * min(abs(at - frame) for at in near))
        return grown(box, margin * max(box[2] - box[0], box[3] - box[1]))

    def _near(self, frame: int) -> list[int]:
        """The frames before and after in which the face was found; none if it was found in this one."""
        place = bisect_left(self._at, frame)
        if place < len(self._at) and self._at[place] == frame:
            return []
        return self._at[max(0, place - 1) : place + 1]


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


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    return float(box_iou(torch.tensor([one], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)))


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    corners = np.array(boxes)
    return (*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist())


def grown(box: Box, margin: float) -> Box:
    """The box with a margin in pixels on every side."""
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


def _crop_box(points: Points) -> Box:
    """The smallest upright box around what ``crop`` takes at dlib's five landmarks."""
    forward = np.vstack([similarity(points + 0.5, DLIB_TEMPLATE + 0.5), [0, 0, 1]])
    corners = np.linalg.inv(forward) @ np.array([[x, y, 1] for x in (0, SIZE) for y in (0, SIZE)]).T
    return (*corners[:2].min(1).tolist(), *corners[:2].max(1).tolist())
