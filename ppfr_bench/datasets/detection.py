"""Faces in photographs: dlib's frontal detector and five landmarks, and the crop they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ppfr_bench.api import ByteArray
from ppfr_bench.assets import asset_path
from ppfr_bench.datasets.alignment import align, similarity
from ppfr_bench.errors import Unavailable

Points = npt.NDArray[np.float64]

_WINDOW = 80  # pixels: the smallest face that dlib's detector finds
_SHARES = (0.2, 0.1)  # of an image's longer side: the smallest face looked for first, and where there is none
_LARGEST = 4096  # pixels, the longer side of what is searched: bounds time and memory

# Where dlib's five points lie on a face aligned to the ArcFace template: the mean over 1,486 aligned photos of LFW.
# Outer and inner corner of the eye on the right of the picture, of the eye on its left, base of the nose.
DLIB_TEMPLATE = np.array([[79.40, 52.85], [65.84, 53.31], [31.35, 53.17], [44.98, 53.44], [55.55, 79.46]])


@dataclass(frozen=True)
class Face:
    """A face of a photograph, in its pixels: ``box`` left, top, right, bottom; ``points`` (5, 2) in dlib's order."""

    box: tuple[float, float, float, float]
    points: Points

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


@cache
def _tools() -> tuple[Any, Any]:
    try:
        dlib: Any = import_module("dlib")
    except ImportError as error:
        raise Unavailable("finding faces needs dlib", "pip install 'ppfr-bench[dlib]'") from error
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(asset_path("dlib_landmarks5")))


def find_faces(image: ByteArray, smallest: float) -> list[Face]:
    """The faces of a photograph uint8 (h, w, 3), the largest first.

    Args:
        smallest: side in pixels of the smallest face to look for; the image is scaled so that it fills dlib's window.

    Raises:
        Unavailable: dlib or its landmarks are not on this machine.
    """
    detector, landmarks = _tools()
    height, width = image.shape[:2]
    scale = min(_WINDOW / smallest, _LARGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    searched = image
    if size != (width, height):
        method = Image.Resampling.BILINEAR
        searched = np.asarray(Image.fromarray(image).resize(size, method, reducing_gap=3.0))
    ratio = np.array([width / size[0], height / size[1]])
    faces = []
    for box in detector(np.ascontiguousarray(searched), 0):
        shape = landmarks(searched, box)
        # A pixel's centre is at its half: what is at 0 in one size is at half a pixel's difference in the other.
        points = (np.array([[part.x, part.y] for part in shape.parts()], dtype=np.float64) + 0.5) * ratio - 0.5
        (left, top), (right, bottom) = np.array([[box.left(), box.top()], [box.right(), box.bottom()]]) * ratio
        faces.append(Face((float(left), float(top), float(right), float(bottom)), points))
    return sorted(faces, key=lambda face: (-face.area, face.box))


def main_face(image: ByteArray) -> Face | None:
    """The face that a portrait uint8 (h, w, 3) is of: large and near the middle; None if there is none.

    Smaller faces are looked for only where there is no large one. Of several, the one whose area less twice the squared
    distance from the middle is largest: the rule of SphereFace and InsightFace.
    """
    height, width = image.shape[:2]
    for share in _SHARES:
        faces = find_faces(image, share * max(height, width))
        if faces:
            return max(faces, key=lambda face: face.area - 2 * _off_centre(face, width, height))
    return None


def _off_centre(face: Face, width: int, height: int) -> float:
    x, y = (face.box[0] + face.box[2]) / 2 - width / 2, (face.box[1] + face.box[3]) / 2 - height / 2
    return x * x + y * y


def crop(image: ByteArray, points: Points, template: Points = DLIB_TEMPLATE) -> ByteArray:
    """The aligned face uint8 (3, 112, 112) of a photograph uint8 (h, w, 3); a large one is averaged down first.

    Args:
        points: (k, 2) landmarks (x, y) in pixels, in the order of ``template``.
    """
    at = points + 0.5  # align() counts from a pixel's corner, landmarks from its centre
    scale = float(np.hypot(*similarity(points, template)[:, 0]))
    factor = int(1 / scale) if scale < 0.5 else 1
    if factor > 1:
        image, at = np.asarray(Image.fromarray(image).reduce(factor)), at / factor
    return align(np.ascontiguousarray(image.transpose(2, 0, 1)), at, template + 0.5)
