"""What the data sets of real photographs share: a root folder, image paths inside it, and content digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ppfr_bench.api import Faces, Pairs
from ppfr_bench.datasets.faces import FileFaces
from ppfr_bench.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def root_of(given: str | None, variable: str, what: str) -> Path:
    """The folder of a data set, from its parameter or the environment.

    Raises:
        UserError: neither is given, or there is no such folder.
    """
    root = given or os.environ.get(variable)
    if not root:
        raise UserError(f"where is {what}?", f"Type --dataset-root FOLDER, or set {variable}=FOLDER.")
    if not Path(root).is_dir():
        raise UserError(f"expected the folder of {what}, got {root}", f"Type --dataset-root FOLDER, or set {variable}.")
    return Path(root)


def inside(root: Path, relative: str, where: str) -> Path:
    """``root / relative``, which must stay inside ``root``.

    Raises:
        UserError: an absolute path, a ``..``, or a link that leads out; or no such file.
    """
    pure = PurePosixPath(relative)
    path = root / pure
    if (
        "\0" in relative
        or pure.is_absolute()
        or ".." in pure.parts
        or not path.resolve().is_relative_to(root.resolve())
    ):
        raise UserError(f"{where} names {relative}, which lies outside {root}", "Use paths inside the data set.")
    if not path.is_file():
        raise UserError(f"{where} names {relative}, and there is no such file in {root}", "Complete the data set.")
    return path


def find_photos(root: Path, pattern: str) -> dict[str, str]:
    """Relative path -> person, the name of the folder it lies in; hidden files and folders are left out.

    Raises:
        UserError: no image at all, images beside the people's folders only, or a link that leads out of the folder.
    """
    found = {}
    for path in sorted(root.glob(pattern)):
        if path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in (path.name, path.parent.name)):
            name = path.relative_to(root).as_posix()
            inside(root, name, str(root))
            found[name] = path.parent.name
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise UserError(
            f"no image in {root}", f"Expected {pattern.replace('*/*', 'PERSON/photo')} with one of {kinds}."
        )
    return found


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
        return FileFaces([self.root / name for name in chosen], self.identities[rows], chosen)

    def digest(self) -> str:
        """sha256 of names and contents."""
        total = hashlib.sha256()
        for name in self.names:
            total.update(name.encode() + b"\0" + hashlib.sha256((self.root / name).read_bytes()).digest())
        return total.hexdigest()


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
