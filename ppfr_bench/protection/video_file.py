"""Videos read as a player shows them: the right way up, with square pixels, opaque; and what could not be read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ppfr_bench.api import ByteArray
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.protection.video_containers import is_cropped, misses_bytes
from ppfr_bench.text import printable

Turn = tuple[int, int, int, int]

_ONE, _LAST = 1 << 16, 1 << 30  # The number one in a display matrix, and in the corner of its last column.
_TOLERANCE = 1e-3  # An entry may be off by this: writers round the sines of their angles.
_LARGEST_ASPECT = 8  # A file whose pixels are longer than this is broken.
# A missing end is left unsaid up to these: in seconds, of the whole, in longest times from frame to frame.
_UNSAID = 0.5, 0.02, 1.5
_UNSAID_IF_DAMAGED = 0.1  # Seconds, where something else is wrong as well.
# FFmpeg calls what is opened so. No playlist or list of files is, as it would bring in other files of this machine.
_FORMATS = (
    "3gp,aac,apng,asf,av1,avi,dv,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,ogg,"
    "obu,rawvideo,vc1,webm,yuv4mpegpipe"
)
_SCANNED = {"mpegts", "mpeg"}  # These formats store no duration; it is found in the content.
_WORDS = {"audio": "sound", "subtitle": "subtitles", "video": "another video", "data": "data"}


@dataclass(frozen=True)
class Frame:
    """One frame as it is seen, uint8 (h, w, 3), and its time: ``pts`` times ``time_base`` seconds."""

    image: ByteArray
    pts: int
    time_base: Fraction


@dataclass
class Reading:
    """What one pass over a video has found.

    frames: that could be read.
    expected: frames that the file promises; None if it promises nothing.
    is_estimate: whether these are reckoned from the duration of all that the file holds, sound included.
    cut_short: the end of the file is missing.
    failed: packets that could not be decoded.
    damaged: frames of which the decoder says that it made parts up.
    """

    frames: int = 0
    expected: int | None = None
    is_estimate: bool = False
    cut_short: bool = False
    failed: int = 0
    damaged: int = 0


class Video:
    """A video file, read from its beginning by every call of ``frames``.

    Of several videos in a file it is the first that is no cover picture; ``left_out`` names all else that it holds,
    ``rate`` is its mean number of frames a second, and ``reading`` tells of the last pass, once it has ended.

    Raises:
        UserError: no video that can be read, one with an alpha channel that is kept apart (WebM), or one that states a
            crop.
        Unavailable: PyAV is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._av = path, _pyav()
        self.reading = Reading()
        with self._open() as container:
            stream = self._stream(container)
            self.rate = float(stream.average_rate or stream.guessed_rate or 25)
            self.left_out = [self._word(other) for other in container.streams if other.index != stream.index]
            told = {name.lower(): value.strip() for name, value in stream.metadata.items()}
            if told.get("alpha_mode", "0") not in ("", "0"):
                raise self._transparent("says that parts of it are transparent", "-c:v libvpx-vp9 ")
        if is_cropped(path):
            raise UserError(
                f"{printable(path)} states a crop beside its pictures: what it cuts off is still in the file, and "
                "would be published",
                self._convert("-i IN -pix_fmt yuv420p cropped.mp4", "Crop it with ffmpeg 7.1 or later"),
            )

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be read.

        Raises:
            UserError: no frame at all; a frame with a transparent pixel; a display matrix that is no quarter turn or
                mirror; or a matrix or size that changes within the video.
        """
        self.reading = Reading()
        with self._open() as container:
            stream = self._stream(container)
            account = _Account(container, stream, self.rate, misses_bytes(self.path))
            aspect = self._aspect(stream)
            first: tuple[tuple[int, ...], Turn] | None = None
            pts: int | None = None
            for decoded in self._decoded(container, stream, account):
                self.reading.frames += 1
                if self._hides_something(decoded):
                    raise self._transparent(f"is transparent in places, in frame {self.reading.frames}")
                image, turn = self._seen(decoded, aspect)
                first = first or (image.shape, turn)
                if first != (image.shape, turn):
                    raise self._changes(first[0], image.shape)
                time_base = decoded.time_base or Fraction(1, 90000)
                if decoded.pts is not None:
                    pts = decoded.pts
                else:  # Raw streams have no times.
                    pts = 0 if pts is None else pts + max(1, round(1 / (Fraction(self.rate) * time_base)))
                yield Frame(image, pts, time_base)
            if not self.reading.frames:
                raise UserError(f"no frame of {printable(self.path)} can be read", account.error)
            account.settle(self.reading)

    def _open(self) -> Any:
        try:
            return self._av.open(str(self.path), options={"format_whitelist": _FORMATS})
        except (self._av.error.FFmpegError, OSError) as error:
            words = str(error).partition("] ")[2] or str(error)
            raise UserError(
                f"{printable(self.path)} is not a video that can be read: {words}",
                "Is it cut short? Most MP4 files have their index at the end, and cannot be read without it.",
            ) from error

    def _stream(self, container: Any) -> Any:
        for stream in container.streams.video:
            if not self._is_cover(stream) and stream.codec_context is not None:
                return stream
        raise UserError(
            f"{printable(self.path)} holds no video that can be read", "Give a video, or a folder of aligned faces."
        )

    def _is_cover(self, stream: Any) -> bool:
        if not hasattr(stream, "disposition"):  # PyAV before 14.3 has none.
            return False
        return bool(stream.disposition & self._av.stream.Disposition.attached_pic)

    def _word(self, stream: Any) -> str:
        return "cover picture" if self._is_cover(stream) else _WORDS.get(stream.type, "attachment")

    def _decoded(self, container: Any, stream: Any, account: _Account) -> Iterator[Any]:
        """PyAV's frames; what cannot be read or decoded is counted and passed over."""
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except (self._av.error.FFmpegError, OSError) as error:
                account.error, account.broken, packet = str(error), True, None
            if packet is not None and packet.stream.index != stream.index:
                account.passes(packet)
                continue
            try:
                if packet is not None:
                    account.takes(packet)
                    decoded = packet.decode()
                else:  # The decoder still holds frames, unless the empty packet that ends a file came.
                    decoded = stream.decode(None) if account.broken else []
            except self._av.error.FFmpegError as error:
                account.error, decoded = str(error), []
                self.reading.failed += 1
            for frame in decoded:
                self.reading.damaged += bool(frame.is_corrupt)
                account.shows(frame)
                yield frame
            if packet is None:
                return

    def _seen(self, frame: Any, aspect: Fraction) -> tuple[ByteArray, Turn]:
        """The pixels of a frame as they are seen, and how they were turned."""
        found = frame.side_data.get("DISPLAYMATRIX")
        try:
            turn = (1, 0, 0, 1) if found is None else quarter_turn(np.frombuffer(bytes(found), np.int32).tolist())
        except UserError as error:
            raise UserError(f"{printable(self.path)}: {error.message}", self._convert("-i IN upright.mp4")) from error
        width, height = frame.width, frame.height
        size = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
        return turned(self._pixels(frame, "rgb24", *size), turn), turn

    def _hides_something(self, frame: Any) -> bool:
        if not frame.format.has_palette and not any(part.is_alpha for part in frame.format.components):
            return False
        return bool(self._pixels(frame, "rgba")[..., 3].min() < 255)

    def _pixels(self, frame: Any, kind: str, width: int | None = None, height: int | None = None) -> ByteArray:
        try:
            pixels: ByteArray = frame.reformat(width=width, height=height, format=kind).to_ndarray()
        except (self._av.error.FFmpegError, ValueError) as error:
            raise UserError(
                f"{printable(self.path)}: frame {self.reading.frames} cannot be converted from {frame.format.name}: "
                f"{error}",
                self._convert("-i IN -pix_fmt yuv420p new.mp4"),
            ) from error
        return pixels

    def _transparent(self, how: str, decoder: str = "") -> UserError:
        return UserError(
            f"{printable(self.path)} {how}: what transparency hides is still in the file, and would be published",
            self._convert(f"{decoder}-i IN -vf premultiply=inplace=1,format=yuv420p flat.mp4", "Put it on black"),
        )

    def _changes(self, before: Sequence[int], now: Sequence[int]) -> UserError:
        what, how = "its display matrix", ""
        if tuple(before) != tuple(now):
            what = f"its size, from {before[1]}x{before[0]} to {now[1]}x{now[0]},"
            how = f" -vf scale={before[1]}:{before[0]}"
        return UserError(
            f"{printable(self.path)} changes {what} in frame {self.reading.frames}",
            self._convert(f"-i IN{how} -pix_fmt yuv420p even.mp4"),
        )

    def _aspect(self, stream: Any) -> Fraction:
        """Width of a pixel over its height."""
        aspect = Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
        if not Fraction(1, _LARGEST_ASPECT) <= aspect <= _LARGEST_ASPECT:
            raise UserError(
                f"{printable(self.path)} has pixels of {aspect.numerator}:{aspect.denominator}",
                self._convert("-i IN -vf setsar=1 -pix_fmt yuv420p square.mp4"),
            )
        return aspect

    def _convert(self, how: str, what: str = "Convert it") -> str:
        line = how.replace("IN", shlex.quote(printable(self.path)))
        return f"{what}, look at the result, and protect that:  ffmpeg {line}"


class _Account:
    """What the container promises, and how far its packets and frames go."""

    def __init__(self, container: Any, stream: Any, rate: float, misses_bytes: bool) -> None:
        self.error, self.broken = "", False
        self._rate, self._misses_bytes, self._base = rate, misses_bytes, float(stream.time_base)
        self._indexed = "mov" in container.format.name and hasattr(stream, "index_entries")
        self._promised = len(stream.index_entries) if self._indexed else stream.frames
        self._of_all = not stream.duration
        self._end = None if container.format.name in _SCANNED else _promised_end(container, stream)
        self._packets = self._discarded = 0
        self._last_is_torn = False
        self._reached = self._elsewhere = self._longest = 0.0
        self._before: float | None = None

    def passes(self, packet: Any) -> None:
        """A packet of another stream."""
        if packet.pts is not None:
            self._elsewhere = max(self._elsewhere, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def takes(self, packet: Any) -> None:
        """A packet of the video."""
        if packet.size:
            self._packets += 1
            self._discarded += packet.is_discard
            self._last_is_torn = packet.is_corrupt

    def shows(self, frame: Any) -> None:
        """A decoded frame."""
        if frame.pts is None:
            return
        time = frame.pts * self._base
        self._longest = max(self._longest, time - self._before) if self._before is not None else 0.0
        self._before = time
        lasts = (getattr(frame, "duration", 0) or 0) * self._base or 1 / self._rate
        self._reached = max(self._reached, time + lasts)

    def settle(self, reading: Reading) -> None:
        """Compare what was promised with what was read. Small differences are left unsaid: durations are rounded."""
        missing = 0.0
        if self._end is not None:
            missing = self._end - max(self._reached, self._elsewhere if self._of_all else 0)
        seconds, share, gaps = _UNSAID
        unsaid = max(seconds, share * (self._end or 0), gaps * self._longest)
        if reading.failed or reading.damaged:
            unsaid = max(_UNSAID_IF_DAMAGED, 1.5 / self._rate)
        if self._misses_bytes:
            unsaid = 0.5 / self._rate
        too_few = self._indexed and self._packets < self._promised
        reading.cut_short = self.broken or self._last_is_torn or too_few or missing > unsaid
        counted = self._promised - self._discarded
        if not reading.cut_short and not reading.failed:
            reading.expected = reading.frames if self._promised or self._end is not None else None
        elif counted > reading.frames:
            reading.expected = counted
        else:
            by_time = reading.frames + round(max(0.0, missing) * self._rate)
            reading.is_estimate = self._of_all and self._elsewhere > 0
            reading.expected = max(by_time, reading.frames + reading.failed)


def quarter_turn(matrix: Sequence[int]) -> Turn:
    """The entries a, b, c, d of a display matrix as -1, 0 and 1: one of the four turns, mirrored or not.

    A matrix (a b u / c d v / x y w), in 16.16 and its last column in 2.30 fixed point, brings a pixel (p, q) to
    (a p + c q + x, b p + d q + y). Players ignore the shift x, y, as the picture is shown whole (ISO/IEC 14496-12).

    Raises:
        UserError: any other matrix.
    """
    a, b, u, c, d, v, _, _, w = matrix
    entries = [value / _ONE for value in (a, b, c, d)]
    turn = tuple(round(value) for value in entries)
    near = all(abs(value - whole) <= _TOLERANCE for value, whole in zip(entries, turn, strict=True))
    straight = [abs(value) for value in turn] in ([1, 0, 0, 1], [0, 1, 1, 0])
    if (u, v, w) != (0, 0, _LAST) or not near or not straight:
        shown = ", ".join(f"{value:g}" for value in (*entries, u / _LAST, v / _LAST, w / _LAST))
        raise UserError(
            "its display matrix is neither a quarter turn nor a mirror: a, b, c, d, u, v, w are " + shown,
        )
    return turn[0], turn[1], turn[2], turn[3]


def turned(image: ByteArray, turn: Turn) -> ByteArray:
    """An image (h, w, 3) as a display matrix shows it."""
    a, b, c, d = turn
    if a:
        seen = image[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
    else:  # (p, q) goes to (c q, b p), so rows become columns.
        seen = image.transpose(1, 0, 2)[:: 1 if b > 0 else -1, :: 1 if c > 0 else -1]
    return np.ascontiguousarray(seen)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise Unavailable("protecting a video needs PyAV", "pip install 'ppfr-bench[video]'") from error
    loaded: ModuleType = av
    return loaded


def _promised_end(container: Any, stream: Any) -> float | None:
    """Seconds at which the video ends, or all that the file holds, as the container states; None if it does not."""
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    # Times count from 0: a file that starts later promises less by this than it holds.
    return container.duration / 1e6 if container.duration else None
