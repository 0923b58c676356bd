"""What was done to a video, and what is still wrong with it: in fields, in words, and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ppfr_bench.protection.face_tracks import Box, grown, hull
from ppfr_bench.protection.video_file import Reading

_LISTED = 100  # The numbers of at most so many frames are kept.
_LOOK_CLOSER = 24  # Pixels; the advice is --smallest of so much.
_MISSED_SIZE = 1.5  # A face larger than this times the smallest looked for was not missed for its size.
_MARGIN = 0.2  # Share of the longer side that the advised command blacks out around a face.


@dataclass
class Report:
    """Counts of a protected video, and what is wrong with it. Frames are counted from 1.

    frames, tracks: frames that were read and written, and faces followed through them.
    protected, held, hidden: faces that were found and protected, faces protected over a gap of one or two frames
        between detections, and places blacked out in longer ones.
    frames_hidden: frames with at least one place blacked out.
    frames_expected: frames that the file promises; None if it promises nothing.
    expected_is_estimate: whether these are reckoned from its duration, sound included.
    cut_short: the end of the file is missing.
    packets_failed, frames_damaged: parts of the file that could not be decoded, and frames that the decoder made up in
        part.
    left_out: what else the file held and was not taken, one word each.
    checked, not_checked: whether a second detector looked for faces left clear, and why not.
    frames_clear, clear_frames: in how many frames it found one, and the first 100 of them.
    first_clear, worst_clear: the first of them, and the one with the largest face: frame, seconds, and pixels of the
        face's longer side.
    next: what to type next, empty if nothing is left clear.
    """

    frames: int
    tracks: int
    protected: int = 0
    held: int = 0
    hidden: int = 0
    frames_hidden: int = 0
    frames_expected: int | None = None
    expected_is_estimate: bool = False
    cut_short: bool = False
    packets_failed: int = 0
    frames_damaged: int = 0
    left_out: list[str] = field(default_factory=list)
    checked: bool = True
    not_checked: str = ""
    frames_clear: int = 0
    clear_frames: list[int] = field(default_factory=list)
    first_clear: dict[str, float] | None = None
    worst_clear: dict[str, float] | None = None
    next: str = ""

    @classmethod
    def of(cls, reading: Reading, tracks: int, left_out: Sequence[str], not_checked: str) -> Report:
        """Of a video that was read, before it is written."""
        return cls(
            reading.frames, tracks, frames_expected=reading.expected, expected_is_estimate=reading.is_estimate,
            cut_short=reading.cut_short, packets_failed=reading.failed, frames_damaged=reading.damaged,
            left_out=list(left_out), checked=not not_checked, not_checked=not_checked,
        )  # fmt: skip

    def count(self, protected: int, held: int, hidden: int) -> None:
        """One frame more."""
        self.protected += protected
        self.held += held
        self.hidden += hidden
        self.frames_hidden += hidden > 0

    def done(self, defense: str, target: str) -> str:
        """What was done, in words."""
        others = [word + f" ({count})" * (count > 1) for word, count in Counter(self.left_out).items()]
        lines = [
            f"{self.frames} frames, {self.tracks} tracks: {self.protected} faces protected by {defense}, {self.held} "
            f"held over a gap of one or two frames, {self.hidden} blacked out in {self.frames_hidden} frames where a "
            f"track's face was not found. Without sound: {target}",
        ]
        if others:
            lines.append(f"Left out of it: {', '.join(others)}.")
        if self.checked and not self.frames_clear:
            lines.append("A second detector finds no face left clear.")
        lines.append("A face that was found in no frame is not protected: look through it.")
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """What is wrong with the video, in words; each is a reason to end with 1."""
        lines = []
        lost = f"{self.frames} of {'about ' * self.expected_is_estimate}{self.frames_expected} frames could be read"
        if self.cut_short:
            lines.append(f"the file is cut short: {lost}, and these alone are written")
        elif self.packets_failed:
            lines.append(f"{self.packets_failed} parts of the file could not be decoded: {lost}")
        if self.frames_damaged:
            lines.append(f"{self.frames_damaged} frames are damaged: the decoder made parts of them up")
        if self.first_clear and self.worst_clear:
            lines.append(
                f"a second detector finds a face left clear in {self.frames_clear} of {self.frames} frames, first in "
                "frame {frame} ({seconds:.2f} s)".format(**self.first_clear)
                + ", the largest in frame {frame} ({seconds:.2f} s, {pixels} pixels)".format(**self.worst_clear)
                + f". One clear frame undoes the rest. {self.next}"
            )
        return lines

    def unchecked(self) -> str:
        """That nothing looked for faces left clear, in words; empty if something did."""
        return "" if self.checked else f"No second detector looked for faces left clear: {self.not_checked}"


class ClearFaces:
    """Faces left clear, frame by frame; of a video of any length it keeps a few numbers."""

    def __init__(self, smallest: float, target: str) -> None:
        self._smallest, self._target = smallest, target
        self._frames = 0
        self._listed: list[int] = []
        self._first: dict[str, float] | None = None
        self._worst: dict[str, float] | None = None
        self._least = float("inf")
        self._around: Box | None = None
        self._until = 0.0

    def add(self, number: int, seconds: float, boxes: Sequence[Box]) -> None:
        """The faces left clear in a frame, counted from 0."""
        if not boxes:
            return
        sizes = [max(right - left, bottom - top) for left, top, right, bottom in boxes]
        told = {"frame": number + 1, "seconds": round(seconds, 3), "pixels": round(max(sizes))}
        self._frames += 1
        self._listed += [number + 1] * (len(self._listed) < _LISTED)
        self._first = self._first or told
        if self._worst is None or told["pixels"] > self._worst["pixels"]:
            self._worst = told
        self._least, self._until = min(self._least, *sizes), seconds
        self._around = hull([*boxes, *([self._around] if self._around else [])])

    def tell(self, report: Report) -> None:
        """Write what was found into the report."""
        report.frames_clear, report.clear_frames = self._frames, self._listed
        report.first_clear, report.worst_clear = self._first, self._worst
        report.next = self._advice()

    def _advice(self) -> str:
        if self._around is None or self._first is None or self._worst is None:
            return ""
        if self._smallest > _LOOK_CLOSER and self._least < _MISSED_SIZE * self._smallest:
            return f"Look for smaller ones:  --smallest {_LOOK_CLOSER}"
        box = grown(self._around, _MARGIN * self._worst["pixels"])
        left, top = (max(0, round(side)) for side in box[:2])
        width, height = round(box[2]) - left, round(box[3]) - top
        place = f"drawbox=x={left}:y={top}:w={width}:h={height}:color=black:t=fill"
        when = f"enable='between(t,{max(0, self._first['seconds'] - 0.5):.2f},{self._until + 0.5:.2f})'"
        return (
            "The first detector misses it, turned away or covered as it is. Cut these frames out, or black the place "
            f'out:  ffmpeg -i {shlex.quote(self._target)} -vf "{place}:{when}" new.mp4'
        )
