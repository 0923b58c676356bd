"""Sequences of faces: in an array, or in files decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ppfr_bench.api import SIZE, ByteArray, Faces, IntArray
from ppfr_bench.errors import UserError

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # no other decoder ever runs on a user's file


class ArrayFaces(Faces):
    """Faces uint8 (n, 3, 112, 112) in an array, usually memory-mapped."""

    def __init__(self, images: ByteArray, identities: Sequence[int] | IntArray, names: Sequence[str]) -> None:
        self.images = images
        self.identities = np.asarray(identities, dtype=np.int64)
        self.names = names

    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        return np.asarray(self.images[np.asarray(indices, dtype=np.int64)])


class FileFaces(Faces):
    """Faces in image files, 112x112 and RGB, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], identities: Sequence[int] | IntArray, names: Sequence[str]) -> None:
        self.paths = paths
        self.identities = np.asarray(identities, dtype=np.int64)
        self.names = names

    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        if not len(indices):
            return np.empty((0, 3, SIZE, SIZE), np.uint8)
        return np.stack([read_image(self.paths[int(i)], self.names[int(i)]) for i in indices])


class Subset(Faces):
    """Some faces of another sequence, in an order of their own."""

    def __init__(self, faces: Faces, indices: Sequence[int] | IntArray) -> None:
        self.faces, self.indices = faces, np.asarray(indices, dtype=np.int64)
        self.identities = faces.identities[self.indices]
        self.names = [faces.names[i] for i in self.indices]

    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        return self.faces.load(self.indices[np.asarray(indices, dtype=np.int64)])


def subset(faces: Faces, indices: Sequence[int] | IntArray) -> Faces:
    """The faces at ``indices``, in that order; nothing is decoded."""
    return Subset(faces, indices)


def read_image(path: Path, name: str) -> ByteArray:
    """One aligned face, uint8 (3, 112, 112).

    Raises:
        UserError: no such file, not an image, a broken one, or one of another size or mode.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            size, mode = image.size, image.mode
            if size == (SIZE, SIZE) and mode == "RGB":
                return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    except FileNotFoundError as error:
        raise UserError(f"{name}: no such image", f"Looked for {path}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not an image that can be read: {error}", "Remove or replace the file.") from error
    raise UserError(
        f"{name}: expected an aligned RGB image of {SIZE}x{SIZE} pixels, got {mode} of {size[0]}x{size[1]}",
        "Align and convert it first: five points onto the ArcFace template.",
    )
