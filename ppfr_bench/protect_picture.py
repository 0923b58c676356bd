"""Protect the faces of a photograph where they are: aligned, protected, and blended back."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ppfr_bench.api import SIZE, ByteArray, Defense
from ppfr_bench.datasets.alignment import similarity
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Points, crop, find_faces
from ppfr_bench.errors import UserError
from ppfr_bench.protect import check_releases_images, for_one_person, learn, release, start

_RIM = 8  # pixels of the crop around it, over which its own edge fades into the photograph


def protect_bytes(defense: Defense, content: bytes, seed: int | None = None, smallest: float = 48) -> tuple[bytes, int]:
    """One encoded image in, one PNG without metadata out, and how many faces in it were protected.

    An image of 112x112 is taken for an aligned face, as in a folder. In any other, every face that is found is
    protected; one person is one key. Where none is found nothing is released.

    Args:
        smallest: side in pixels of the smallest face to look for.

    Raises:
        UserError: no image, no face found in it, or a defense that releases no images.
        Unavailable: dlib is missing, or what a defense that learns needs.
    """
    check_releases_images(defense)
    image = _decode(content)
    generator = start(seed)
    learn(defense, generator)
    if image.shape[:2] == (SIZE, SIZE):
        released = release(defense, image.transpose(2, 0, 1)[None], generator)[0].transpose(1, 2, 0)
        return _encode(released), 1
    faces = find_faces(image, smallest)
    if not faces:
        raise UserError("no face was found, so nothing is released", "Look for smaller ones:  --smallest 24")
    out = image.copy()
    for face in faces:
        blend(
            out, release(for_one_person(defense, generator), crop(image, face.points)[None], generator)[0], face.points
        )
    return _encode(out), len(faces)


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


def _decode(content: bytes) -> ByteArray:
    """uint8 (h, w, 3), the right way up."""
    try:
        with warnings.catch_warnings():
            # Of an image of up to twice its limit Pillow only warns: that is refused, too.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["JPEG", "PNG", "BMP", "WEBP"]) as opened:
                return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"not an image that can be read: {error}", "Expected JPEG, PNG, BMP or WebP.") from error
    except Image.DecompressionBombWarning as error:
        raise UserError(f"an image too large to take in: {error}", "Make it smaller.") from error


def _encode(image: ByteArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
