"""Protect the faces of a photograph where they are: aligned, protected, and blended back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ppfr_bench.api import SIZE, ByteArray, Defense
from ppfr_bench.datasets.alignment import similarity
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face, Points, crop, find_faces
from ppfr_bench.datasets.second_detector import find_again, why_not_checked
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.images import decode, encode_png
from ppfr_bench.protection.face_tracks import Box
from ppfr_bench.protection.folder import check_releases_images, for_one_person, learn, start
from ppfr_bench.stages.release import release
from ppfr_bench.text import printable, read_bytes

_COVERED = 0.6  # At least this share of a face's box must be protected or black.
_GRID = 16  # The share is measured at so many points a side.
_LOOK_CLOSER = 24  # Pixels; the advice is --smallest of so much.
_RIM = 8  # The crop's edge fades into the photograph over so many of its pixels.


@dataclass
class ReleasedPicture:
    """A photograph or a frame uint8 (h, w, 3) as it is released, the faces in it, and the places that are black.

    Those ``beneath`` the held faces are told from those where a face was lost, ``black``.
    """

    image: ByteArray
    protected: list[Face] = field(default_factory=list)
    held: list[Face] = field(default_factory=list)
    beneath: list[Box] = field(default_factory=list)
    black: list[Box] = field(default_factory=list)

    def covers(self, box: Box) -> bool:
        """Whether a face there is protected or black: 60% of its box, which holds what is beside the face as well.

        Of 502 faces that both detectors found, photographs and computer-generated, turned by up to 25 degrees, the crop
        covered 71% of the second detector's box at the least, and 97% in the median.
        """
        steps = (np.arange(_GRID) + 0.5) / _GRID
        x, y = np.meshgrid(box[0] + steps * (box[2] - box[0]), box[1] + steps * (box[3] - box[1]))
        inside = np.zeros(x.shape, bool)
        for left, top, right, bottom in (*self.black, *self.beneath):
            inside |= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        for face in (*self.protected, *self.held):
            to_crop = similarity(face.points + 0.5, DLIB_TEMPLATE + 0.5)
            across, down = np.tensordot(to_crop, np.stack([x, y, np.ones_like(x)]), 1)
            inside |= (across >= 0) & (across <= SIZE) & (down >= 0) & (down <= SIZE)
        return bool(inside.mean() >= _COVERED)


@dataclass(frozen=True)
class ProtectedImage:
    """A PNG without metadata: ``faces`` in it are protected.

    ``left_clear``: boxes of the faces that a second detector finds elsewhere; ``not_checked``: why it has not looked.
    """

    content: bytes
    faces: int
    left_clear: tuple[Box, ...] = ()
    not_checked: str = ""

    @property
    def warning(self) -> str:
        """That a face is left clear, in words; empty if none is."""
        if not self.left_clear:
            return ""
        left, top, right, bottom = max(self.left_clear, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        return (
            f"a second detector finds {len(self.left_clear)} faces left clear, the largest from ({left:.0f}, "
            f"{top:.0f}) to ({right:.0f}, {bottom:.0f}). Look for smaller ones with  --smallest "
            f"{_LOOK_CLOSER}, or black them out"
        )


def protect_image(defense: Defense, content: bytes, seed: int | None = None, smallest: float = 48) -> ProtectedImage:
    """One encoded image in, one PNG without metadata out.

    An image of 112x112 is taken for an aligned face, as in a folder. In any other, every face that dlib finds is
    protected; one person is one key. Where none is found nothing is released. Faces that dlib misses are looked for by
    a second detector: see ``ppfr_bench.datasets.second_detector``.

    Args:
        smallest: side in pixels of the smallest face to look for.

    Raises:
        UserError: an image that ``ppfr_bench.images`` refuses, no face found in it, a defense that releases no images,
            or a release that ``release`` refuses.
        Unavailable: dlib is missing, or what a defense that learns needs.
    """
    check_releases_images(defense)
    image = decode(content).pixels
    generator = start(seed)
    learn(defense, generator)
    if image.shape[:2] == (SIZE, SIZE):
        released = release(defense, image.transpose(2, 0, 1)[None], generator)[0].transpose(1, 2, 0)
        return ProtectedImage(encode_png(released), 1)
    faces = find_faces(image, smallest)
    if not faces:
        raise UserError("no face was found, so nothing is released", "Look for smaller ones:  --smallest 24")
    done = ReleasedPicture(image.copy())
    for face in faces:
        taken = crop(image, face.points)[None]
        blend(done.image, release(for_one_person(defense, generator), taken, generator)[0], face.points)
        done.protected.append(face)
    not_checked = why_not_checked()
    left = () if not_checked else tuple(find_again(image, done.covers))
    return ProtectedImage(encode_png(done.image), len(faces), left, not_checked)


def protect_photograph(
    defense: Defense, source: Path, target: Path, seed: int | None = None, smallest: float = 48
) -> ProtectedImage:
    """One image file to another, a PNG: see ``protect_image``.

    Raises:
        UserError: as ``protect_image``, or a ``target`` that is no .png or the source itself. Nothing is written then.
    """
    if target.suffix.lower() != ".png":
        raise UserError(
            f"{printable(target)}: a photograph is written as PNG, expected a name that ends in .png",
            f"For example:  {printable(target.with_suffix('.png'))}    or:  protect DEFENSE - - <IN >OUT",
        )
    if target.exists() and (target.is_dir() or target.samefile(source)):
        what = "a folder" if target.is_dir() else "the source"
        raise UserError(f"{printable(target)} is {what}", "Choose another name.")
    done = protect_image(defense, read_bytes(source, what="photograph"), seed, smallest)
    write_atomic(target, done.content)
    return done


def blend(image: ByteArray, face: ByteArray, points: Points) -> None:
    """Put a crop back to where it was taken from, in place.

    The whole crop replaces what was there; only beyond it, its own edge fades out, so no clear pixel shines through.

    Args:
        image: uint8 (h, w, 3); face: uint8 (3, 112, 112); points: dlib's five that ``crop`` was given.
    """
    forward = similarity(points + 0.5, DLIB_TEMPLATE + 0.5)
    matrix = np.vstack([forward, [0, 0, 1]])
    ends = np.array([[x, y, 1] for x in (-_RIM, SIZE + _RIM) for y in (-_RIM, SIZE + _RIM)]).T
    there = (np.linalg.inv(matrix) @ ends)[:2]
    limits = image.shape[1], image.shape[0]
    left, top = (int(np.clip(np.floor(side.min()), 0, limit)) for side, limit in zip(there, limits, strict=True))
    right, bottom = (int(np.clip(np.ceil(side.max()), 0, limit)) for side, limit in zip(there, limits, strict=True))
    if right <= left or bottom <= top:
        return
    offset = forward @ [left, top, 1] + _RIM
    affine = (*forward[0, :2], offset[0], *forward[1, :2], offset[1])
    size, method = (right - left, bottom - top), Image.Transform.AFFINE
    padded = np.pad(face.transpose(1, 2, 0), ((_RIM, _RIM), (_RIM, _RIM), (0, 0)), mode="edge")
    warped = Image.fromarray(padded).transform(size, method, affine, Image.Resampling.BICUBIC)
    ramp = np.minimum(1, np.minimum(np.arange(SIZE + 2 * _RIM), np.arange(SIZE + 2 * _RIM)[::-1]) / (_RIM - 1))
    mask = Image.fromarray(np.round(255 * np.minimum.outer(ramp, ramp)).astype(np.uint8))
    alpha = mask.transform(size, method, affine, Image.Resampling.BILINEAR)
    there_now = Image.fromarray(image[top:bottom, left:right])
    image[top:bottom, left:right] = np.asarray(Image.composite(warped, there_now, alpha))
