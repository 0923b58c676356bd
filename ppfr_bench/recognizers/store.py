"""Embeddings cached by image content: each distinct image goes through each recognizer once, in any process."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from ppfr_bench import device, integrity
from ppfr_bench.api import SIZE, ByteArray, FloatArray, Recognizer, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.places import is_file

__all__ = ["FILE", "CachedEmbedder", "EmbeddingStore", "Usage"]

logger = logging.getLogger(__name__)

FILE = "embeddings-2.sqlite"  # In the cache; another table has a file of another number.
_LOOKUP = 256  # Images looked up at a time.
_COMMIT = 64  # Images embedded between two commits; a kill can lose so many.
_WAIT = 60.0  # Seconds to wait for another process's commit.
_SCHEMA = """CREATE TABLE IF NOT EXISTS embedding (
    recognizer TEXT NOT NULL, version INTEGER NOT NULL, image BLOB NOT NULL, vector BLOB NOT NULL,
    checksum BLOB NOT NULL, PRIMARY KEY (recognizer, version, image))"""
_COLUMNS = ["recognizer", "version", "image", "vector", "checksum"]
# A full disk, or one that fails, is no reason to throw away what others have computed: only what a file alone can be at
# fault for is damage. The other errors are where its header is not one of sqlite.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_ENDS_EARLY = sqlite3.SQLITE_IOERR_SHORT_READ
_PERHAPS = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
_MAGIC, _HEADER = b"SQLite format 3\0", 100  # The first bytes of a file, and how many of them tell what it is.


@dataclass
class Usage:
    """What a recognizer has been asked for: images in all, images it had to embed, and the seconds that took."""

    requested: int = 0
    embedded: int = 0
    seconds: float = 0.0


class EmbeddingStore:
    """A sqlite file of embeddings, keyed by recognizer, its version, and the sha256 of the uint8 image.

    Embeddings that a GPU computed are kept apart, as its sums differ: the name of their recognizer ends in the class of
    the device, ``@cuda``. A recognizer that computes on the CPU whatever the device says so by ``computes_on``.

    Several processes may share it. What is computed is committed every 64 images. Each row has a checksum: one that is
    damaged is computed anew. A damaged file is replaced. Both are said. A full disk is an error, and replaces nothing.

    Args:
        path: the file; it and its folder are made when first needed.

    Attributes:
        usage: by recognizer name, counted since this object was made.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.usage: defaultdict[str, Usage] = defaultdict(Usage)

    def embed(
        self, recognizer_name: str, recognizer: Recognizer, images: ByteArray | Iterable[ByteArray]
    ) -> FloatArray:
        """Images uint8 (n, 3, 112, 112), or batches of such, -> (n, d) in their order.

        Raises:
            UserError: images of another type or shape, a file that cannot be written, or a recognizer whose answer is
                not finite or of another shape than its card says.
        """
        parts = [
            self._slice(recognizer_name, recognizer, batch[start : start + _LOOKUP])
            for batch in ([images] if isinstance(images, np.ndarray) else images)
            for start in range(0, len(_checked(batch)), _LOOKUP)
        ]
        return np.concatenate(parts) if parts else np.empty((0, recognizer.card.dimension))

    def _slice(self, name: str, recognizer: Recognizer, images: ByteArray) -> FloatArray:
        for attempt in range(3):
            try:
                with closing(self._connect()) as connection:
                    return self._embed(connection, name, recognizer, images)
            except sqlite3.DatabaseError as error:
                if attempt == 2 or not self._is_damage(error):
                    raise self._unusable(error) from error
                self._replace(error, anyway=attempt == 1)
        raise AssertionError("unreachable")

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"cannot use the embedding cache {self.path}: {error}",
            "Free some space, make its folder writable, or move the cache with PPFR_BENCH_CACHE.",
        )

    def _embed(
        self, connection: sqlite3.Connection, name: str, recognizer: Recognizer, images: ByteArray
    ) -> FloatArray:
        dimension, kept_as = recognizer.card.dimension, _kept_as(name, recognizer)
        usage = self.usage[name]
        digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
        known = self._look_up(connection, (kept_as, recognizer.version), set(digests), dimension)
        missing = {digest: index for index, digest in enumerate(digests) if digest not in known}
        for chunk in _chunks(list(missing.items()), _COMMIT):
            started = time.perf_counter()
            answer = recognizer.embed(to_float(images[[index for _, index in chunk]])).detach().cpu().numpy()
            usage.seconds += time.perf_counter() - started
            usage.embedded += len(chunk)
            if answer.shape != (len(chunk), dimension) or not np.isfinite(answer).all():
                raise UserError(
                    f"recognizer '{name}': expected finite embeddings ({len(chunk)}, {dimension}), got {answer.shape}"
                    f" with {np.count_nonzero(~np.isfinite(answer))} values not finite",
                    "Compare its card with what its embed returns.",
                )
            vectors = answer.astype("<f4")
            key = kept_as, recognizer.version
            rows = [
                (*key, digest, blob, _checksum(key, digest, blob))
                for (digest, _), blob in zip(chunk, map(bytes, vectors), strict=True)
            ]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?, ?, ?)", rows)
            known.update((digest, vector) for (digest, _), vector in zip(chunk, vectors, strict=True))
        usage.requested += len(images)
        return np.stack([known[digest] for digest in digests]).astype(np.float64)

    def _look_up(
        self, connection: sqlite3.Connection, key: tuple[str, int], digests: set[bytes], dimension: int
    ) -> dict[bytes, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        places = ", ".join("?" * len(digests))
        columns = "image, vector, checksum FROM embedding"
        query = f"SELECT {columns} WHERE recognizer = ? AND version = ? AND image IN ({places})"
        known, damaged = {}, 0
        for image, blob, checksum in connection.execute(query, (*key, *digests)):
            if not isinstance(blob, bytes) or _checksum(key, image, blob) != checksum:
                damaged += 1
            elif len(blob) == 4 * dimension:  # Else its card has changed under one version: compute it again.
                known[image] = np.frombuffer(blob, "<f4")
        if damaged:
            logger.warning("%d rows of the embedding cache %s are damaged; they are computed anew", damaged, self.path)
        return known

    def _connect(self) -> sqlite3.Connection:
        # Each call has a connection of its own: none is shared between threads or carried across a fork.
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        connection = sqlite3.connect(self.path, timeout=_WAIT)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
            if [row[1] for row in connection.execute("PRAGMA table_info(embedding)")] != _COLUMNS:
                raise _OtherTableError("it has a table of other columns")
        except BaseException:  # The connection is closed after Ctrl-C too.
            connection.close()
            raise
        return connection

    def _is_damage(self, error: sqlite3.DatabaseError) -> bool:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, _OtherTableError) or code is None:
            return isinstance(error, _OtherTableError)
        primary = code & 0xFF  # The extended codes keep the primary one in their low byte.
        return primary in _DAMAGE or code == _ENDS_EARLY or (primary in _PERHAPS and not self._could_be_sqlite())

    def _could_be_sqlite(self) -> bool:
        """Whether the file is not there yet, or begins as one of sqlite does, or cannot be read at all."""
        if os.path.lexists(self.path) and not is_file(self.path):
            return False  # A folder, or a link to nowhere.
        try:
            with self.path.open("rb") as file:
                header = file.read(_HEADER)
        except OSError:
            return True
        versions = header[18:20]  # For writing and for reading: 1, or 2 with a write-ahead log.
        schema = int.from_bytes(header[44:48], "big")
        return not header or (header.startswith(_MAGIC) and set(versions) <= {1, 2} and schema <= 4)

    def _replace(self, error: sqlite3.DatabaseError, anyway: bool) -> None:
        """Start a new file, unless another process has done so: then the one that is there is sound."""
        try:
            with FileLock(self.path.with_name(self.path.name + ".lock")):
                if not anyway and self._is_sound():
                    return
                logger.warning("the embedding cache %s is damaged (%s); starting a new one", self.path, error)
                for suffix in ("-wal", "-shm", ""):
                    integrity.remove(self.path.with_name(self.path.name + suffix))
        except OSError as refused:
            raise self._unusable(refused) from refused

    def _is_sound(self) -> bool:
        try:
            with closing(self._connect()) as connection:
                return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
        except sqlite3.DatabaseError as error:
            if not self._is_damage(error):
                raise self._unusable(error) from error
            return False


class _OtherTableError(sqlite3.DatabaseError):
    """A table of another format is in the file."""


class CachedEmbedder:
    """A recognizer behind an ``EmbeddingStore``: what an attacker is handed (``ppfr_bench.api.Embedder``)."""

    def __init__(self, name: str, recognizer: Recognizer, store: EmbeddingStore) -> None:
        self.name = name
        self.recognizer = recognizer
        self.store = store

    @property
    def usage(self) -> Usage:
        """Images and seconds of this recognizer, counted by the store."""
        return self.store.usage[self.name]

    def embed(self, images: ByteArray | Iterable[ByteArray]) -> FloatArray:
        """uint8 (n, 3, 112, 112), or batches of such, -> float64 (n, d)."""
        return self.store.embed(self.name, self.recognizer, images)

    def similarity_matrix(self, probes: FloatArray, gallery: FloatArray) -> FloatArray:
        """All against all, (p, d) and (g, d) -> (p, g); larger is more alike."""
        return self.recognizer.similarity_matrix(probes, gallery)


def _checked(images: ByteArray) -> ByteArray:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
        raise UserError(
            f"expected uint8 images (n, 3, {SIZE}, {SIZE}), got {images.dtype} {images.shape}",
            "Convert float images with ppfr_bench.api.to_bytes.",
        )
    return images


def _kept_as(name: str, recognizer: Recognizer) -> str:
    where = getattr(recognizer, "computes_on", None) or device.device_class()
    return name if where == "cpu" else f"{name}@{where}"


def _chunks(items: list[tuple[bytes, int]], size: int) -> Iterator[list[tuple[bytes, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _checksum(key: tuple[str, int], image: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(repr((*key, image)).encode() + vector, digest_size=16).digest()
