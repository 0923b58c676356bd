"""What lies in a folder that a user gives: every file is taken, or there is a reason why not.

The same rules hold wherever a folder of images is read: hidden files and folders are left out, links are not followed
(two names of one photograph are no two photographs), and a file whose suffix does not tell is looked at.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ppfr_bench.errors import UserError
from ppfr_bench.images import SUFFIXES, looks_like_image
from ppfr_bench.text import printable

__all__ = ["Listing", "folded", "is_hidden", "kind_by_name", "list_folder", "list_images", "summary"]

READABLE = "Check the path and its permissions."
HIDDEN = "hidden"
LINK = "a link, which is not followed"
NO_IMAGE = "not an image"
UNKNOWN = "not an image of a format that is read"
_OTHER = frozenset({  # Files that lie beside images are not opened.
    ".bin", ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".idx", ".ini", ".json", ".jsonl", ".log", ".lst", ".mat",
    ".md", ".npy", ".npz", ".pdf", ".pkl", ".py", ".rec", ".rst", ".sh", ".tsv", ".txt", ".xls", ".xlsx", ".xml",
    ".yaml", ".yml", ".zip",
})  # fmt: skip


@dataclass
class Listing:
    """``files``: POSIX name below the folder -> path, in the order of the names; ``left_out``: name -> why."""

    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def is_hidden(name: str) -> bool:
    """Whether a part of a POSIX name starts with a dot, or is what macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def kind_by_name(name: str) -> bool | None:
    """True for an image by its suffix, False for another kind of file, None where only its content tells."""
    suffix = PurePosixPath(name).suffix.lower()
    return True if suffix in SUFFIXES else False if suffix in _OTHER else None


def list_folder(root: Path) -> Listing:
    """Every regular file below a folder. What is in a hidden or linked folder is left out with the folder.

    Raises:
        UserError: no such folder, or one in it that cannot be read.
    """
    found = Listing()
    for name, entry in sorted(_walk(root, ""), key=lambda item: item[0]):
        if is_hidden(name):
            found.left_out[name] = HIDDEN
        elif entry.is_symlink():
            found.left_out[name] = LINK
        elif not entry.is_file(follow_symlinks=False):
            found.left_out[name] = "no regular file"
        else:
            found.files[name] = Path(entry.path)
    return found


def list_images(root: Path) -> Listing:
    """The images below a folder by suffix, or by their first bytes where the suffix does not tell; the rest left out.

    Raises:
        UserError: as ``list_folder``, or a file that cannot be read.
    """
    found = list_folder(root)
    for name, path in list(found.files.items()):
        image = kind_by_name(name)
        if image is None:
            try:
                with path.open("rb") as file:
                    image = looks_like_image(file.read(64))
            except OSError as error:
                raise UserError(f"cannot read {printable(path)}: {error.strerror or error}", READABLE) from error
        if not image:
            del found.files[name]
            found.left_out[name] = UNKNOWN if kind_by_name(name) is None else NO_IMAGE
    found.left_out = dict(sorted(found.left_out.items()))
    return found


def folded(name: str) -> str:
    """A name as a file system may take it that knows no capitals and one spelling of an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def summary(left_out: dict[str, str]) -> list[str]:
    """One line a reason, with how many and the first names."""
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(printable(name))
    return [
        f"{len(names)} not taken: {why} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})"
        for why, names in sorted(reasons.items())
    ]


def _walk(folder: Path, below: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        raise UserError(f"cannot read the folder {printable(folder)}: {error.strerror or error}", READABLE) from error
    for entry in listed:
        name = below + entry.name
        if entry.is_dir(follow_symlinks=False) and not is_hidden(entry.name):
            yield from _walk(Path(entry.path), f"{name}/")
        else:
            yield name, entry


def write_atomic(path: Path, content: bytes) -> None:
    """Write to a temporary name beside ``path`` and rename: readers see the old file or the new one, whole.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "Free some space, or choose another folder (--results DIR, --out DIR, PPFR_BENCH_CACHE=DIR).",
        ) from error
