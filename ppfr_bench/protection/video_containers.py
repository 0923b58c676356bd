"""What MP4 and Matroska files say and PyAV does not tell: a crop beside the coded picture, and how long the file is."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

Parts = Iterator[tuple[Any, int, int]]  # Kind, first byte of the content, and end.

_DESCRIPTIONS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")  # MP4 describes its pictures here.
_ENTRY = 78  # Such a description has so many bytes before its boxes.
_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
_VIDEOS = (_SEGMENT, 0x1654AE6B, 0xAE, 0xE0)  # Segment, Tracks, TrackEntry, Video: Matroska has it here.
_CROPS = {0x54AA, 0x54BB, 0x54CC, 0x54DD}  # PixelCropBottom, Top, Left, Right


def is_cropped(path: Path) -> bool:
    """Whether a player shows less of a picture than is coded: ``clap`` in MP4 and QuickTime, PixelCrop in Matroska."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(4) == _MATROSKA:
            found = _inside(_elements, file, 0, size, _VIDEOS)
            return any(_has_pixel_crop(file, start, end) for start, end in found)
        return any(
            _has_clean_aperture(file, entry, end)
            for start, stop in _inside(_boxes, file, 0, size, _DESCRIPTIONS)
            for _, entry, end in _boxes(file, start + 8, stop)
        )


def misses_bytes(path: Path) -> bool:
    """Whether a Matroska file is shorter than the size that its segment states."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(4) != _MATROSKA:
            return False
        return any(kind == _SEGMENT and end > size for kind, _, end in _elements(file, 0, size))


def _inside(
    parts: Callable[[BinaryIO, int, int], Parts], file: BinaryIO, start: int, end: int, where: Sequence[Any]
) -> Iterator[tuple[int, int]]:
    """First byte and end of every part that lies in the others of ``where``."""
    for kind, first, stop in parts(file, start, end):
        if kind == where[0] and len(where) == 1:
            yield first, stop
        elif kind == where[0]:
            yield from _inside(parts, file, first, stop, where[1:])


def _boxes(file: BinaryIO, start: int, end: int) -> Parts:
    """The boxes of MP4 between two places."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        first = start + 8
        if length == 1 and len(head) == 16:
            (length,), first = struct.unpack(">Q", head[8:]), start + 16
        stop = start + length if length else end
        if stop < first:
            return
        yield kind, first, stop
        start = stop


def _has_clean_aperture(file: BinaryIO, start: int, end: int) -> bool:
    """Whether a description of coded pictures states a part that is smaller than they are."""
    file.seek(start)
    head = file.read(_ENTRY)
    for kind, first, _ in _boxes(file, start + _ENTRY, end):
        file.seek(first)
        content = file.read(16)
        if kind == b"clap" and len(content) == 16:
            across, over, down, under = struct.unpack(">4i", content)
            width, height = struct.unpack(">2H", head[24:28])
            return bool(across < width * over or down < height * under)
    return False


def _elements(file: BinaryIO, start: int, end: int) -> Parts:
    """The elements of Matroska between two places."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        kind, width = _number(head)
        length, more = _number(head[width:])
        if not width or not more:
            return
        first, length = start + width + more, length & ((1 << 7 * more) - 1)
        unknown = length == (1 << 7 * more) - 1  # A live stream states no length.
        stop = end if unknown else first + length
        yield kind, first, stop
        start = stop


def _has_pixel_crop(file: BinaryIO, start: int, end: int) -> bool:
    for kind, first, stop in _elements(file, start, end):
        file.seek(first)
        if kind in _CROPS and any(file.read(min(8, stop - first))):
            return True
    return False


def _number(content: bytes) -> tuple[int, int]:
    """A number of variable length with the bit that marks its length, and its bytes (0: there is none)."""
    width = 9 - content[0].bit_length() if content and content[0] else 0
    return (int.from_bytes(content[:width], "big"), width) if 0 < width <= len(content) else (0, 0)
