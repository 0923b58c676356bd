"""What a data set comes in: a folder, a tar or a zip. No name in it is trusted, and nothing is unpacked to disk."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ppfr_bench.errors import UserError
from ppfr_bench.files import HIDDEN, READABLE, is_hidden, list_folder
from ppfr_bench.text import decode_text, printable

LARGEST = 64 << 20  # Bytes of one image or list; anything larger is neither.
# What zipfile raises on a broken archive, beside RuntimeError for what is packed in a way that it does not know.
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, lzma.LZMAError, OSError, EOFError, ValueError, OverflowError)


class Source(ABC):
    """The regular files of a folder or an archive, by their POSIX names inside it.

    Attributes:
        label: the name of the folder or the archive, for reports.
        sizes: bytes of each file.
        left_out: hidden files and, in a folder, links: name -> why they are not among the files.
    """

    label: str
    sizes: dict[str, int]
    left_out: dict[str, str]

    @abstractmethod
    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The contents of ``wanted``, in the order that is fastest: a compressed tar is read once, from front to back.

        Raises:
            UserError: a broken archive, or a file that cannot be read.
        """

    def text(self, name: str) -> str:
        """One file as text.

        Raises:
            UserError: too large, or not UTF-8.
        """
        if self.sizes[name] > LARGEST:
            raise UserError(f"{self.label}: {name} is too large for a list", "Use the official one.")
        return decode_text(dict(self.read([name]))[name], f"{name} in {self.label}")

    def find(self, ending: str) -> str | None:
        """The file whose name is ``ending`` or ends in ``/ending``: the one nearest to the top, or None."""
        found = [name for name in self.sizes if name == ending or name.endswith(f"/{ending}")]
        return min(found, key=lambda name: (name.count("/"), name), default=None)


def open_source(path: Path) -> Source:
    """A folder, or a tar (plain, gz, bz2, xz) or zip archive.

    Raises:
        UserError: nothing there, no archive, a name that is absolute or leads out (``..``), a link, a device, or one
            name twice. The whole is refused then: an archive of photographs holds no such thing.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise UserError(f"no folder or archive at {path}", "Give the archive as it was downloaded, or its folder.")
    if zipfile.is_zipfile(path):
        return _Zip(path)
    if tarfile.is_tarfile(path):
        return _Tar(path)
    raise UserError(f"{path} is no folder, tar or zip", "Give the archive as it was downloaded, or its folder.")


class _Folder(Source):
    def __init__(self, root: Path) -> None:
        self.label, self.root = printable(root.resolve().name), root
        listing = list_folder(root)
        self.left_out = listing.left_out
        self.sizes = {name: path.stat().st_size for name, path in listing.files.items()}

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for name in wanted:
            try:
                yield name, (self.root / name).read_bytes()
            except OSError as error:
                raise UserError(
                    f"cannot read {printable(self.root / name)}: {error.strerror or error}", READABLE
                ) from error


class _Archive(Source):
    path: Path

    def _add(self, name: str, size: int) -> None:
        if name in self.sizes or name in self.left_out:
            raise UserError(f"{self.path} holds {name} twice", "Do not trust this archive.")
        if is_hidden(name):
            self.left_out[name] = HIDDEN
        else:
            self.sizes[name] = size


class _Tar(_Archive):
    def __init__(self, path: Path) -> None:
        self.label, self.path = printable(path.name), path
        self.sizes, self.left_out = {}, {}
        for member in self._members():
            name = _checked(member.name, path)
            if not (member.isreg() or member.isdir()):
                raise UserError(f"{path}: {member.name} is a link or a device", "Do not trust this archive.")
            if member.isreg():
                self._add(name, member.size)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        left = set(wanted)
        with self._open() as archive:
            for member in self._members(archive):
                name = _checked(member.name, self.path)
                if name in left:
                    left.remove(name)
                    file = archive.extractfile(member)
                    assert file is not None, "a regular file"
                    yield name, file.read()
                if not left:
                    return

    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self.path, "r:*")

    def _members(self, archive: tarfile.TarFile | None = None) -> Iterator[tarfile.TarInfo]:
        try:
            if archive is not None:
                yield from archive
                return
            with self._open() as opened:
                yield from opened
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{self.path} is broken: {error}", "Download it again.") from error


class _Zip(_Archive):
    def __init__(self, path: Path) -> None:
        self.label, self.path = printable(path.name), path
        self.sizes, self.left_out, self._infos = {}, {}, dict[str, zipfile.ZipInfo]()
        with self._open() as archive:
            for info in archive.infolist():
                name = _checked(info.filename, path)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UserError(f"{path}: {info.filename} is a link or a device", "Do not trust this archive.")
                if not info.is_dir():
                    self._add(name, info.file_size)
                    self._infos[name] = info

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        with self._open() as archive:
            for name in wanted:
                try:
                    content = self._content(archive, name)
                except _BROKEN as error:
                    raise UserError(f"{self.path}: {name} cannot be read: {error}", "Download it again.") from error
                except RuntimeError as error:  # zipfile raises it for a password or an unknown compression.
                    raise UserError(
                        f"{self.path}: {name} cannot be read: {error}", "Pack it again, with deflate and no password."
                    ) from error
                if len(content) != self.sizes[name]:
                    raise UserError(f"{self.path}: {name} is cut short", "Download it again.")
                yield name, content

    def _content(self, archive: zipfile.ZipFile, name: str) -> bytes:
        """A file, unpacked as far as its size says. Other ways of packing would unpack all that there is at once.

        Raises:
            RuntimeError: it is packed in another way; ``read`` says what to do.
        """
        info = self._infos[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RuntimeError(f"compression of type {info.compress_type}")
        with archive.open(info) as file:
            return file.read(info.file_size + 1)  # Of a file that goes on after its size, the check sum is wrong.

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (*_BROKEN, NotImplementedError) as error:
            raise UserError(f"{self.path} is broken: {error}", "Download it again.") from error


def _checked(name: str, path: Path) -> str:
    """The name as it is read, without ``./``."""
    pure, windows = PurePosixPath(name), PureWindowsPath(name)
    if "\0" in name or "\\" in name or pure.is_absolute() or windows.drive or ".." in pure.parts:
        raise UserError(f"{path}: {name!r} lies outside of it", "Do not trust this archive.")
    return pure.as_posix()
