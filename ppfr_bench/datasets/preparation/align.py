"""One image of a source -> one aligned crop, or why there is none. Pure: the same bytes in, the same bytes out."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ppfr_bench.api import SIZE, ByteArray
from ppfr_bench.datasets.alignment import TEMPLATE
from ppfr_bench.datasets.detection import Points, crop, main_face
from ppfr_bench.images import UnreadableImage, decode, encode_png

# Aligned images of these formats are kept byte for byte.
KEPT = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
_QUALITY = 98  # Without chroma subsampling a crop takes 12 kB, and no recognizer notices a loss.
SMALLEST = 16.0  # Pixels between the eyes, of 35 on the template; below, most of a crop is invented.

NO_FACE = "no face found"


@dataclass(frozen=True)
class Task:
    """An image to align; ``points`` where its landmarks are known, ``size`` (w, h) that they hold for."""

    name: str
    content: bytes
    aligned: bool = False
    points: Points | None = None
    placed: Points | None = None
    placed_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Outcome:
    """An encoded crop and its suffix, or a reason; ``points``: dlib's five, and the size of the image."""

    name: str
    content: bytes | None = None
    suffix: str = ".jpg"
    reason: str = ""
    points: Points | None = None
    size: tuple[int, int] = (0, 0)


def work(task: Task) -> Outcome:
    """The crop of one image. One that was aligned before is kept byte for byte, or as PNG if it had to be converted.

    Raises:
        Unavailable: dlib or its landmarks are missing.
    """
    try:
        found = decode(task.content, (SIZE, SIZE) if task.aligned else None)
    except UnreadableImage as error:
        return Outcome(task.name, reason=error.message)
    if task.aligned:
        if found.plain:
            return Outcome(task.name, task.content, KEPT[found.kind])
        return Outcome(task.name, encode_png(found.pixels), ".png")
    if min(found.pixels.shape[:2]) < 2:
        return Outcome(task.name, reason="smaller than 2x2 pixels")
    return _align(task, found.pixels)


def _align(task: Task, image: ByteArray) -> Outcome:
    size = image.shape[1], image.shape[0]
    if task.points is not None:
        return Outcome(task.name, _encode(crop(image, task.points, TEMPLATE)), size=size)
    if task.placed is not None:
        if size != task.placed_size:
            return Outcome(task.name, reason=NO_FACE)
        return Outcome(task.name, _encode(crop(image, task.placed)), size=size)
    face = main_face(image)
    if face is None:
        return Outcome(task.name, reason=NO_FACE, size=size)
    eyes = face.points[:2].mean(0), face.points[2:4].mean(0)
    if float(np.hypot(*(eyes[0] - eyes[1]))) < SMALLEST:
        return Outcome(task.name, reason=f"less than {SMALLEST:g} pixels between the eyes", size=size)
    return Outcome(task.name, _encode(crop(image, face.points)), points=face.points, size=size)


def _encode(image: ByteArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
