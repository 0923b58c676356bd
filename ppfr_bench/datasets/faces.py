"""Sequences of faces: in an array, or in files decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppfr_bench.api import SIZE, ByteArray, Faces, IntArray
from ppfr_bench.errors import UserError
from ppfr_bench.images import UnreadableImage, read


class ArrayFaces(Faces):
    """Faces uint8 (n, 3, 112, 112) in an array, usually memory-mapped."""

    def __init__(self, images: ByteArray, identities: Sequence[int] | IntArray, names: Sequence[str]) -> None:
        self.images = images
        self.identities = np.asarray(identities, dtype=np.int64)
        self.names = names

    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        return np.asarray(self.images[np.asarray(indices, dtype=np.int64)])


class FileFaces(Faces):
    """Faces in image files, 112x112, decoded when asked for."""

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
    """One aligned face, uint8 (3, 112, 112): see ``ppfr_bench.images`` for what is read, and how.

    Raises:
        UserError: no such file, not an image, a broken one, one of another size, or one that ``images`` refuses.
    """
    try:
        pixels = read(path, (SIZE, SIZE)).pixels
    except UnreadableImage as error:
        raise UserError(f"{name}: {error.message}", error.hint) from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
