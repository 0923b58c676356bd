"""Files below a folder or a URL: the few operations that a disk and an object store both know.

A file is published whole or not at all: under a temporary name and renamed on a disk, in one upload to a URL. Paths are
relative to the root, with ``/`` between their parts.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from ppfr_bench.errors import UserError
from ppfr_bench.files import READABLE, write_atomic

if TYPE_CHECKING:
    from upath import UPath

    Place = Path | UPath

STALE = 120.0  # A lock at a URL that is not renewed for so many seconds is a killed process's.
POLL = 0.2  # Seconds between two looks at it.
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


class Entry(NamedTuple):
    """What lies in a folder. Another ``stamp`` tells of another content."""

    name: str
    is_folder: bool
    stamp: tuple[object, ...]


class Storage(ABC):
    """Files below ``root``."""

    root: Place

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, or at a URL anything below that name."""

    @abstractmethod
    def entries(self, folder: str) -> list[Entry]:
        """What lies in a folder by name, without what is being written; nothing where there is no folder.

        Raises:
            UserError: it cannot be read.
        """

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The content of a file; None where there is none.

        Raises:
            UserError: it cannot be read.
        """

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of many files by path, without those that are not there."""
        return {path: content for path in paths if (content := self.read(path)) is not None}

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Publish a file.

        Raises:
            UserError: it cannot be written.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, if there is one.

        Raises:
            UserError: it is there and cannot be removed.
        """

    @abstractmethod
    def alone(self, path: str) -> AbstractContextManager[object]:
        """One process at a time holds the lock that lies there; others wait.

        Raises:
            UserError: nothing can be written there.
        """

    def folders(self, folder: str) -> list[str]:
        """The folders in a folder, by name, none of those that are hidden."""
        return [one.name for one in self.entries(folder) if one.is_folder and not one.name.startswith(".")]

    def unswept(self, path: str) -> AbstractContextManager[object]:
        """Held while files are written that nobody must sweep; ``path`` is of the lock that is held while sweeping.

        Where a file is written by one request, there is nothing to sweep, and nothing is held.
        """
        return nullcontext()

    def sweep(self, folder: str) -> None:
        """Remove what killed processes have left half-written. Only under the lock of all who write into the folder."""

    def name(self, path: str) -> str:
        """The whole path, for messages."""
        return str(self.root / path)


def storage(root: str | Place) -> Storage:
    """Of a folder, or of a URL of any file system that fsspec knows.

    Raises:
        UserError: the package for this kind of URL is not installed.
    """
    return _Remote(str(root)) if _URL.match(str(root)) else _Local(Path(str(root)))


class _Local(Storage):
    def __init__(self, root: Path) -> None:
        self.root: Path = root

    def is_folder(self, path: str) -> bool:
        return (self.root / path).is_dir()

    def entries(self, folder: str) -> list[Entry]:
        found = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # It was moved meanwhile.
                        if not (entry.name.startswith(".") and entry.name.endswith(".tmp")):
                            stat = entry.stat()
                            found.append(
                                Entry(entry.name, entry.is_dir(), (stat.st_size, stat.st_mtime_ns, stat.st_ino))
                            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.name(folder)}: {error.strerror or error}", READABLE) from error
        return sorted(found)

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"cannot read {self.name(path)}: {error.strerror or error}", READABLE) from error

    def write(self, path: str, content: bytes) -> None:
        write_atomic(self.root / path, content)

    def remove(self, path: str) -> None:
        try:
            (self.root / path).unlink(missing_ok=True)
        except NotADirectoryError:
            pass
        except OSError as error:
            raise UserError(f"cannot remove {self.name(path)}: {error.strerror or error}", READABLE) from error

    def alone(self, path: str) -> AbstractContextManager[object]:
        folder = (self.root / path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {folder}: {error.strerror or error}", "Choose another folder:  --results DIR"
            ) from error
        return FileLock(self.root / path)

    def unswept(self, path: str) -> AbstractContextManager[object]:
        return self.alone(path)

    def sweep(self, folder: str) -> None:
        for leftover in (self.root / folder).glob(".*.tmp"):
            leftover.unlink(missing_ok=True)


class _Remote(Storage):
    """Nothing of it is kept in memory: others write there too, and the environment may name another server later."""

    def __init__(self, url: str) -> None:
        from upath import UPath

        try:
            self.root: UPath = UPath(url, use_listings_cache=False, skip_instance_cache=True)
            self._system = self.root.fs
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open {url}: {error}", "For S3:  pip install 'ppfr-bench[s3]'") from error
        self._held: dict[str, tuple[bytes, float]] = {}  # The content of our locks, and since when they hold it.

    def is_folder(self, path: str) -> bool:
        return bool(self.entries(path))

    def entries(self, folder: str) -> list[Entry]:
        at = self._at(folder)
        with self._asked("read", folder):
            try:
                listed = self._system.ls(at, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        found = [
            Entry(
                one["name"].rstrip("/").rpartition("/")[2], one["type"] == "directory",
                tuple(str(one.get(what, "")) for what in ("size", "ETag", "LastModified", "mtime", "created")),
            )
            for one in listed if one["name"].strip("/") != at.strip("/")
        ]  # fmt: skip
        return sorted(found)

    def read(self, path: str) -> bytes | None:
        with self._asked("read", path):
            try:
                return bytes(self._system.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        wanted = {self._at(path): path for path in paths}
        if not wanted:
            return {}
        with self._asked("read", ""):  # Many files are read at once.
            found = self._system.cat(list(wanted), recursive=False, on_error="return")
        contents = found if isinstance(found, dict) else dict.fromkeys(wanted, found)
        for at, content in contents.items():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                with self._asked("read", wanted[at]):
                    raise content
        return {wanted[at]: bytes(content) for at, content in contents.items() if not isinstance(content, Exception)}

    def write(self, path: str, content: bytes) -> None:
        with self._asked("write", path):
            self._system.pipe_file(self._at(path), content)
            for lock, (_, since) in list(self._held.items()):
                if time.monotonic() - since > STALE / 4:  # Others then see that we are still there.
                    self._held[lock] = uuid.uuid4().hex.encode(), time.monotonic()
                    self._system.pipe_file(self._at(lock), self._held[lock][0])

    def remove(self, path: str) -> None:
        with self._asked("remove", path), suppress(FileNotFoundError):
            self._system.rm_file(self._at(path))

    @contextmanager
    def alone(self, path: str) -> Iterator[None]:
        token, seen, since = uuid.uuid4().hex.encode(), b"", time.monotonic()
        while not self._create(path, token):
            now = self.read(path) or b""
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > STALE:
                self.remove(path)
            time.sleep(POLL)
        self._held[path] = token, time.monotonic()
        try:
            yield
        finally:
            token, _ = self._held.pop(path)
            if self.read(path) == token:
                self.remove(path)

    def _create(self, path: str, content: bytes) -> bool:
        """Whether the file is ours: it was not there before, or this file system cannot tell."""
        with self._asked("write", path):
            try:
                self._system.pipe_file(self._at(path), content, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):
                pass
        return True

    def _at(self, path: str) -> str:
        return f"{self.root.path.rstrip('/')}/{path}".rstrip("/")

    @contextmanager
    def _asked(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # A file system raises errors of its own.
            raise UserError(
                f"cannot {verb} {self.name(path)}: {error}", "Check the URL and its credentials (AWS_...)."
            ) from error
