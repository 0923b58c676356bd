"""Sample faces: the strip of a record, and the sheet of a row, on which its records' strips lie one below another.

A strip is known by the sha256 of its pixels, which its record names. It is settled: put into JPEG again it comes out
the same, so it is cut from a sheet and laid on another without loss. The file of a row notes which strip lies where on
its sheet, and the sheet's sha256. A sheet of another sha256 is searched for the pixels that records name; what is on
no record is never shown.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

FACE = 112  # Pixels a side.
_WIDEST, _MOST = 64, 500  # Faces of a strip and strips of a sheet, below what JPEG can hold.
_LARGEST = 80_000_000  # Pixels of a sheet.
_QUALITY = 92
_ROUNDS = 64  # Rounds through JPEG: one strip of 485 took twelve, and most took one.

Pixels = npt.NDArray[np.uint8]


def pixels_of(content: bytes) -> Pixels | None:
    """Of JPEG of whole faces, uint8 (height, width, 3); None of anything else."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            width, height = opened.size
            if height % FACE or width % FACE or width > _WIDEST * FACE or width * height > _LARGEST:
                return None
            return np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def strip_of(faces: Sequence[Pixels]) -> bytes:
    """JPEG of faces uint8 (3, 112, 112) side by side."""
    return settled(np.concatenate([face.transpose(1, 2, 0) for face in faces], axis=1))


def settled(pixels: Pixels) -> bytes:
    """JPEG of a strip (112, width, 3) that JPEG does not change any more."""
    for _ in range(_ROUNDS):
        content = _encoded(pixels)
        again = _decoded(content)
        if np.array_equal(again, pixels):
            break
        pixels = again
    return content


def name_of(strip: bytes) -> str:
    """The sha256 of the pixels, 64 hex digits."""
    return _name(_decoded(strip))


def is_strip(content: bytes, name: str) -> bool:
    """Whether this is JPEG of a strip of whole faces under that name."""
    pixels = pixels_of(content)
    return pixels is not None and pixels.shape[0] == FACE and _name(pixels) == name


def sheet_of(strips: Mapping[str, bytes]) -> tuple[bytes, dict[str, Any]]:
    """JPEG of strips below each other, and what ``strips_of`` is to know of it; at most 500 of them."""
    rows = {name: _decoded(strip) for name, strip in list(strips.items())[:_MOST]}
    width = max(row.shape[1] for row in rows.values())
    sheet = _small(np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows.values()]))
    return sheet, {
        "sha256": hashlib.sha256(sheet).hexdigest(),
        "strips": [[name, row.shape[1] // FACE] for name, row in rows.items()],
    }


def strips_of(sheet: bytes, wanted: Iterable[str], note: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """JPEG of the strips on a sheet that are wanted, by name; nothing of what is no sheet.

    Args:
        note: what ``sheet_of`` gave beside it. It is heeded where it is of this sheet.
    """
    left = set(wanted)
    pixels = pixels_of(sheet) if left else None
    if pixels is None:
        return {}
    if note and note.get("sha256") == hashlib.sha256(sheet).hexdigest():
        cut = (
            (name, pixels[FACE * row : FACE * (row + 1), : FACE * faces])
            for row, (name, faces) in enumerate(note["strips"])
        )
        return {name: _encoded(strip) for name, strip in cut if name in left and strip.size}
    return _searched(pixels, left)


def _searched(pixels: Pixels, wanted: set[str]) -> dict[str, bytes]:
    found = {}
    for top in range(0, pixels.shape[0], FACE):
        for right in range(pixels.shape[1], 0, -FACE):  # A strip may be narrower than its sheet.
            strip = np.ascontiguousarray(pixels[top : top + FACE, :right])
            if (name := _name(strip)) in wanted:
                found[name] = _encoded(strip)
                break
    return found


def _name(pixels: Pixels) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _small(pixels: Pixels) -> bytes:
    """The same pixels in fewer bytes than ``_encoded``."""
    content = _encoded(pixels)
    if len(content) > 0.9 * pixels.shape[0] * pixels.shape[1]:  # Pillow's buffer would be too small for noise.
        return content
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=True, progressive=True)
    return buffer.getvalue()


def _encoded(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _decoded(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
        return np.asarray(opened.convert("RGB"))
