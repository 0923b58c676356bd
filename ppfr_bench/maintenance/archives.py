"""The archive of a submission: read only if it is small, plain and holds nothing but what it should."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from ppfr_bench.errors import UserError
from ppfr_bench.maintenance.strict import strict_json
from ppfr_bench.records import draws
from ppfr_bench.text import printable, read_bytes, unseen_characters

ASK = "Nothing was taken. Ask for one that ppfr-bench submit has made."
LIMITS = {".py": 200_000, ".json": 2_000_000, ".jsonl": 8_000_000, ".jpg": 4_000_000, ".parquet": 32_000_000}  # Bytes.
LARGEST = 64 << 20  # Bytes of the archive itself.
MOST = 200  # Files.
MOST_DRAWS = 20_000_000  # All records of an archive together have at most so many.
SOURCE = re.compile(r"defenses/([a-z][a-z0-9_]{0,63})\.py")
_LABEL = "[a-z0-9_]{1,64}"
RESULT = re.compile(rf"results/({_LABEL})/(plan\.json|draws\.parquet|{_LABEL}/{_LABEL}\.(jsonl|jpg))")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(10))}
_END = struct.Struct("<4s4H2LH")  # The record at the end of an archive, without a comment.
_ENTRY = 512  # Bytes that the directory of an archive has for a file at most.


def files_of(path: Path) -> dict[str, bytes]:
    """The files of an archive by path, none of them large, none of them elsewhere, all of them text as it should be.

    Raises:
        UserError: what is wrong with it, by file.
    """
    shown = printable(path)
    content = _whole(path, shown)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if twice := next((name for name in names if names.count(name) > 1), ""):
                raise UserError(f"{shown}: {twice[:200]!r} is in it twice", ASK)
            for member in members:
                if wrong := _wrong_member(member):
                    raise UserError(f"{shown}: {member.filename[:200]!r} {wrong}", ASK)
            _check_gaps(content, members, archive.start_dir, shown)
            files = {member.filename: _unpacked(archive, member, shown) for member in members}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{shown} is not an archive that can be read: {error}", ASK) from error
    for name, one in files.items():
        if wrong := wrong_content(name, one):
            raise UserError(f"{shown}: {name}: {wrong}", ASK)
    return files


def _whole(path: Path, shown: str) -> bytes:
    """The bytes of the archive, once it is known to be small and to hold few files: before any of it is unpacked."""
    content = read_bytes(path, ASK, "archive", LARGEST)
    if len(content) < _END.size or not content.startswith(b"PK\x03\x04"):
        raise UserError(f"{shown} is not an archive that can be read: it does not begin as one", ASK)
    signature, disk, first, here, count, size, start, comment = _END.unpack(content[-_END.size :])
    if signature != b"PK\x05\x06" or disk or first or here != count or comment:
        raise UserError(f"{shown} is not an archive that can be read: it does not end as one", ASK)
    if count > MOST or size > count * _ENTRY:
        raise UserError(
            f"{shown}: {count} files and a directory of {size:,} bytes, at most {MOST} files are taken", ASK
        )
    if start + size + _END.size != len(content):
        raise UserError(f"{shown} is not an archive that can be read: it holds bytes outside of its files", ASK)
    return content


def _wrong_member(member: zipfile.ZipInfo) -> str:
    """Why a file of an archive is not unpacked, by what its directory says of it; empty if it is."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    name = member.filename
    if member.orig_filename != name or not (SOURCE.fullmatch(name) or RESULT.fullmatch(name)):
        return "is no place of a defense or a record"
    if any(part.partition(".")[0] in _RESERVED for part in name.split("/")):
        return "is a name that Windows keeps for a device"
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device, expected a file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {member.compress_type}, expected stored or deflated"
    limit = LIMITS[Path(name).suffix]
    return f"is larger than {limit:,} bytes" if member.file_size > limit else ""


def _check_gaps(content: bytes, members: list[zipfile.ZipInfo], end: int, shown: str) -> None:
    """Raises:
    UserError: there is something between the files, or two of them overlap.
    """
    at = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        names, extra = struct.unpack("<2H", content[at + 26 : at + 30]) if at + 30 <= len(content) else (0, 0)
        if member.header_offset != at:
            raise UserError(f"{shown} is not an archive that can be read: it holds bytes outside of its files", ASK)
        at += 30 + names + extra + member.compress_size
    if at != end:
        raise UserError(f"{shown} is not an archive that can be read: it holds bytes outside of its files", ASK)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> bytes:
    limit = LIMITS[Path(member.filename).suffix]
    with archive.open(member) as opened:
        found = opened.read(limit + 1)  # The size that the archive states is not trusted.
    if len(found) > limit:
        raise UserError(f"{shown}: {member.filename} is larger than {limit:,} bytes", ASK)
    return found


def wrong_content(name: str, content: bytes) -> str:
    """What is wrong with the content of a file, before anything reads it as what it should be; empty if nothing."""
    if name.endswith(".py"):
        return wrong_source(content)
    if name.endswith(".parquet"):
        try:
            count = draws.count(content, name)
        except UserError as error:
            return error.message
        return f"it has {count:,} numbers, at most {MOST_DRAWS:,} are taken" if count > MOST_DRAWS else ""
    if name.endswith(".jpg"):
        return ""
    lines = content.removesuffix(b"\n").split(b"\n") if name.endswith(".jsonl") else [content]
    for number, line in enumerate(lines, 1):
        try:
            strict_json(line)
        except ValueError as error:
            return f"line {number} is not a record: {error}" if len(lines) > 1 else f"it is no plan or record: {error}"
    return ""


def wrong_source(content: bytes) -> str:
    """What is wrong with a Python file that a person is to read: an encoding, or characters that are not seen."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8"
    unseen = unseen_characters(text)
    return f"{unseen[0]}, which a reader does not see" if unseen else ""
