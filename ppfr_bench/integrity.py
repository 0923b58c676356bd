"""Files on a disk that may fail: known by their hash, written so that a crash leaves all of them or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["file_sha256", "file_sha256_once", "remove", "reserve", "sync"]

_known: dict[tuple[int, int, int, int, int], str] = {}  # By what the system says of a file that has not changed.


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, 64 hex digits.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256_once(path: Path) -> str:
    """As ``file_sha256``, read once a process: again only if the file was written or replaced since.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    if key not in _known:
        _known[key] = file_sha256(path)
    return _known[key]


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk. A folder cannot be waited for on Windows.

    Raises:
        OSError: the disk has refused it.
    """
    if os.name == "nt" and path.is_dir():
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def reserve(path: Path) -> None:
    """Take the room that a file says it has: a mapped page that finds a full disk would end the process.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate") and (size := path.stat().st_size):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # Not every file system can.
                    raise


def remove(path: Path) -> None:
    """Remove whatever is there, as far as it can be: a file, a link, or a folder, also one that may not be read."""

    def make_readable(function: Callable[..., Any], name: str, _: object) -> None:
        try:
            Path(name).parent.chmod(stat.S_IRWXU)
            Path(name).chmod(stat.S_IRWXU)
            function(name)
        except OSError:
            pass  # It stays: nobody reads it any more.

    try:
        if path.is_dir() and not path.is_symlink():
            path.chmod(stat.S_IRWXU)
            shutil.rmtree(path, onerror=make_readable)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass
