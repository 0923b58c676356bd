"""What the data sets of real photographs share: a root folder, image paths inside it, and content digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ppfr_bench.api import Faces, Pairs
from ppfr_bench.datasets.faces import FileFaces
from ppfr_bench.errors import UserError
from ppfr_bench.files import HIDDEN, NO_IMAGE, folded, list_images
from ppfr_bench.images import SUFFIXES
from ppfr_bench.places import from_environment, is_file, is_folder, user_path
from ppfr_bench.text import printable

Rows = list[tuple[str, str, bool, int]]  # left, right, same, fold
Missing = Literal["refuse", "skip"]


def root_of(given: str | None, variable: str, what: str) -> Path:
    """The folder of a data set, from its parameter or the environment; ``~`` is the home folder.

    Raises:
        UserError: neither is given, or there is no such folder.
    """
    path = user_path(given, "the root of the data set") if given else from_environment(variable)
    if path is None:
        raise UserError(
            f"expected the folder of {what}, got none", f"Type --dataset-root FOLDER, or set {variable}=FOLDER."
        )
    if not is_folder(path):
        raise UserError(
            f"expected the folder of {what}, got {printable(path)}", f"Type --dataset-root FOLDER, or set {variable}."
        )
    return path


def inside(root: Path, relative: str, where: str) -> Path:
    """``root / relative``, which must stay inside ``root``.

    Raises:
        UserError: an absolute path, a ``..``, or a link that leads out; or no such file.
    """
    path = _within(root, relative, where)
    if not is_file(path):
        raise UserError(f"{where} names {relative}, and there is no such file in {root}", "Complete the data set.")
    return path


def _within(root: Path, relative: str, where: str) -> Path:
    pure = PurePosixPath(relative)
    path = root / pure
    if (
        "\0" in relative
        or pure.is_absolute()
        or ".." in pure.parts
        or not path.resolve().is_relative_to(root.resolve())
    ):
        raise UserError(f"{where} names {relative}, which lies outside {root}", "Use paths inside the data set.")
    return path


def find_photo(root: Path, relative: str, where: str) -> str | None:
    """The photograph of a list, whatever its suffix: LFW and CFP name a .jpg, and the crops may be PNG.

    Returns:
        The name below ``root`` of the file that is there, or None if there is none.

    Raises:
        UserError: a name that leads out, or two files of that name with different suffixes.
    """
    path = _within(root, relative, where)
    try:
        there = sorted(p for p in path.parent.iterdir() if p.stem == path.stem and p.suffix.lower() in SUFFIXES)
    except OSError:
        return None
    if len(there) > 1:
        names = " and ".join(p.name for p in there)
        raise UserError(f"{where} names {relative}, and {path.parent} holds {names}", "Keep one of them.")
    if not there:
        return None
    found = there[0].relative_to(root).as_posix()
    _within(root, found, where)
    return found


def photos_of(root: Path, rows: Rows, where: str, missing: Missing, first_line: int | None = None) -> Rows:
    """The pairs of a protocol, each photograph by the name of the file that is there.

    Args:
        where: the list, for messages; ``first_line``: that of the first pair in it, if every pair has one.
        missing: ``skip`` leaves out the pairs of a photograph that is not there.

    Raises:
        UserError: a photograph is missing, and pairs are not to be left out; or as ``find_photo``; or none is there.
    """
    names = sorted({name for row in rows for name in row[:2]})
    found = {name: find_photo(root, name, where) for name in names}
    lost = [name for name in names if found[name] is None]
    if lost and missing == "refuse":
        place, name = next((i, name) for i, row in enumerate(rows) for name in row[:2] if found[name] is None)
        line = "" if first_line is None else f", line {first_line + place}"
        more = f" (nor for {len(lost) - 1} more of its names)" if len(lost) > 1 else ""
        raise UserError(
            f"{where}{line} names {name}, and there is no such file in {root}{more}",
            "Complete the data set, or leave out the pairs of what is missing:  --set dataset.missing=skip",
        )
    kept = [(found[a] or "", found[b] or "", same, fold) for a, b, same, fold in rows if found[a] and found[b]]
    if not kept:
        raise UserError(f"{where}: not one pair has both its photographs in {root}", "Complete the data set.")
    return kept


@dataclass(frozen=True)
class FoundPhotos:
    """``people``: relative path -> person; ``left_out``: other file -> why it is no photo."""

    people: dict[str, str]
    left_out: dict[str, str]


def find_photos(root: Path, below: str = "") -> FoundPhotos:
    """The photos in ``root / below``, PERSON/photo: the folder that one lies in names the person.

    Hidden files are left out, and so are files that are no images by their suffixes (lists, texts).

    Raises:
        UserError: no image at all, one that lies elsewhere than in a person's folder, a link, a file of a format
            that is not read, or people whose names differ too little.
    """
    start = root / below
    if not start.is_dir():
        raise UserError(f"no folder {below} in {root}", "Expected PERSON/photo in it.")
    listing = list_images(start)
    prefix = f"{below}/" if below else ""
    for name, why in listing.left_out.items():
        if why not in (HIDDEN, NO_IMAGE):
            raise UserError(f"{prefix}{printable(name)} in {root} is {why}", "Remove it, or put a photo in its place.")
    found = {}
    for name in listing.files:
        parts = name.split("/")
        if len(parts) != 2:
            raise UserError(
                f"{prefix}{printable(name)} in {root}: expected PERSON/photo, got an image "
                f"{'in no folder' if len(parts) == 1 else f'{len(parts) - 1} folders deep'}",
                "Say which folder names the person:  ppfr-bench data prepare folder SRC DST --aligned --person-level 1",
            )
        found[prefix + name] = parts[0]
    check_people(sorted(set(found.values())), str(root))
    left_out = {name: why for name, why in listing.left_out.items() if "/" in name and why == NO_IMAGE}
    if not found:
        raise UserError(
            f"no image in {root}", f"Expected {prefix}PERSON/photo with one of {', '.join(sorted(SUFFIXES))}."
        )
    return FoundPhotos(found, left_out)


def check_people(names: Iterable[str], where: str) -> None:
    """Refuse people whose names differ in capitals or in the spelling of an accent only.

    Raises:
        UserError: two such names: they may be one person, and some file systems make one folder of them.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(folded(name), name)
        if other != name:
            raise UserError(
                f"{where}: the people {printable(other)!r} and {printable(name)!r} differ in capitals or in the "
                "spelling of an accent only",
                "Put their photos into one folder if they are one person; else rename one of them.",
            )


class Photos:
    """The photographs a protocol names, each once, in sorted order, with the person of each."""

    def __init__(self, root: Path, people: dict[str, str]) -> None:
        """``people``: relative path -> person."""
        self.root = root
        self.names = sorted(people)
        self.people = [people[name] for name in self.names]
        number = {person: i for i, person in enumerate(sorted(set(self.people)))}
        self.identities = np.array([number[person] for person in self.people], dtype=np.int64)
        self._row = {name: i for i, name in enumerate(self.names)}

    def identity(self, name: str) -> int:
        """The person's number of a photograph, a KeyError if it is none of these."""
        return int(self.identities[self._row[name]])

    def faces(self, names: Iterable[str] | None = None) -> FileFaces:
        """All photographs, or those of ``names``, sorted."""
        rows = sorted(self._row[name] for name in (self.names if names is None else names))
        chosen = [self.names[row] for row in rows]
        return FileFaces([self.root / name for name in chosen], self.identities[rows], [*map(printable, chosen)])

    def digest(self) -> str:
        """sha256 of names and contents."""
        total = hashlib.sha256()
        for name in self.names:
            content = _content(self.root / name)
            total.update(os.fsencode(name) + b"\0" + hashlib.sha256(content).digest())
        return total.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {printable(path)}: {error.strerror or error}", "Check the data set.") from error


def to_pairs(rows: Sequence[tuple[str, str, bool, int]], faces: Faces) -> Pairs:
    """Named pairs (left, right, same, fold) -> indices into ``faces``; folds are numbered from 0."""
    row = {name: i for i, name in enumerate(faces.names)}
    folds = sorted({fold for *_, fold in rows})
    numbers = np.array(
        [(row[a], row[b], same, folds.index(fold)) for a, b, same, fold in rows], dtype=np.int64
    ).reshape(-1, 4)
    return Pairs(numbers[:, 0], numbers[:, 1], numbers[:, 2].astype(bool), numbers[:, 3])


def thin(rows: Sequence[tuple[str, str, bool, int]], per_fold: int | None) -> list[tuple[str, str, bool, int]]:
    """At most ``per_fold`` pairs of each fold, the first ones, half of them genuine."""
    if per_fold is None:
        return list(rows)
    kept, seen = [], dict[tuple[int, bool], int]()
    for row in rows:
        key = row[3], row[2]
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= per_fold // 2:
            kept.append(row)
    return kept
