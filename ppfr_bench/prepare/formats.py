"""What the formats have in common, and those that are folders of images: lfw, cfp, celeba, folder."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from ppfr_bench.datasets._files import SUFFIXES
from ppfr_bench.datasets.cfp import read_split
from ppfr_bench.datasets.detection import Points
from ppfr_bench.datasets.lfw import read_pairs
from ppfr_bench.errors import UserError
from ppfr_bench.prepare.source import LARGEST, Source, open_source
from ppfr_bench.results import write_atomic

Value = TypeVar("Value")
Rows = list[tuple[str, str, bool, int]]  # left, right, same, fold
_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$|^$')  # what some file system cannot take as a name


@dataclass(frozen=True)
class Item:
    """An image of the source: where it goes (below the destination, without suffix), and its landmarks if known.

    ``points``: (5, 2) in the order of ``alignment.TEMPLATE``.
    """

    target: str
    points: Points | None = None


class Format(ABC):
    """One layout of a data set, opened on a source.

    Attributes:
        label: the source's name, for reports.
        items: by name in the source, in the order of the names.
        left_out: name -> reason, of what is known to be of no use before it is opened.
        fingerprint: changes when the source does.
        aligned: the images are aligned crops of 112x112 by definition.
        placed: where a face is not found, it is taken to be where it mostly is (LFW's faces are centred).
    """

    label: str
    items: dict[str, Item]
    left_out: dict[str, str]
    fingerprint: object
    aligned = False
    placed = False

    @abstractmethod
    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Contents by name in the source, each of ``wanted`` once."""

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        """Write lists and pairs; ``files``: target -> file below ``folder``, of what was kept.

        Returns:
            By file of pairs: how many pairs it holds, and how many are lost with their images.
        """
        return {}

    def advice(self, folder: Path) -> str:
        """What to type next."""
        return f'[dataset] name = "folder", params = {{ root = "{(folder / "images").as_posix()}" }}'


class FolderFormat(Format):
    """Any folder or archive with ``.../PERSON/photo.jpg``, such as VGGFace2, CASIA-WebFace or one's own."""

    expected = ".../PERSON/photo.jpg"

    def __init__(self, path: Path) -> None:
        self.source = open_source(path)
        self.label = self.source.label
        self.items, self.left_out, self._taken = {}, {}, set[str]()
        self.prepare()
        self.fingerprint = sorted(self.source.sizes.items())
        if not self.items:
            raise UserError(f"{path}: no image found, expected {self.expected}", "Is it the right folder or archive?")

    def prepare(self) -> None:
        """Fill ``items`` and ``left_out``."""
        for name, pure in images_of(self.source):
            if len(pure.parts) < 2:
                self.left_out[name] = "in no person's folder"
            else:
                self.add(name, f"images/{pure.parts[-2]}/{pure.stem}")

    def add(self, name: str, target: str, points: Points | None = None) -> None:
        """An image, unless its name is not fit for a file or another one has it already."""
        if any(_UNFIT.search(part) or len(part) > 150 for part in target.split("/")):
            self.left_out[name] = "a name that not every file system can take"
        elif self.source.sizes[name] > LARGEST:
            self.left_out[name] = "larger than 64 MB"
        elif target in self._taken:
            self.left_out[name] = "another image has the same person and name"
        else:
            self._taken.add(target)
            self.items[name] = Item(target, points)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        yield from self.source.read(wanted)


class LfwFormat(FolderFormat):
    """LFW's archive (``lfw.tgz``, funneled or not) or its folder, and ``pairs.txt``: the photos of the protocol."""

    expected = "NAME/NAME_0001.jpg"
    placed = True

    def __init__(self, path: Path, pairs: Path | None = None) -> None:
        self.path, self.given = path, pairs
        super().__init__(path)

    def prepare(self) -> None:
        self.pairs_text = self._find_pairs()
        numbers = re.findall(r"^(.+?)\t(\d+)\t(?:(\d+)|(.+?)\t(\d+))\s*$", self.pairs_text, re.MULTILINE)
        named = {f"{a}_{int(i):04d}" for a, i, *_ in numbers}
        named |= {f"{b or a}_{int(j or k):04d}" for a, _, j, b, k in numbers}
        for name, pure in images_of(self.source):
            if pure.stem in named and pure.stem.rpartition("_")[0] == pure.parent.name:
                self.add(name, f"images/{pure.parent.name}/{pure.stem}")

    def _find_pairs(self) -> str:
        inside = self.source.find("pairs.txt")
        if self.given is None and inside is not None:
            return self.source.text(inside)
        beside = self.given or self.path.parent / "pairs.txt"
        if not beside.is_file():
            raise UserError(
                f"no pairs.txt in {self.path} or beside it", "It is a download of its own:  --pairs FILE"
            )  # fmt: skip
        return text_of(beside)

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        write_atomic(folder / "pairs.txt", self.pairs_text.encode())
        return {"pairs.csv": write_pairs(folder, "pairs.csv", read_pairs(folder / "pairs.txt"), files)}

    def advice(self, folder: Path) -> str:
        return f"ppfr-bench run lfw_quick --dataset-root {folder}"


class CfpFormat(FolderFormat):
    """CFP as published (``Data/Images/001/frontal/01.jpg``, ``Protocol/``), or as this module writes it."""

    expected = "001/frontal/01.jpg or 001/frontal_01.jpg"
    _ORIGINAL = re.compile(r"(?:^|/)(\d{3})/(frontal|profile)[/_](\d{2})\.\w+$")

    def prepare(self) -> None:
        for name, _ in images_of(self.source):
            if found := self._ORIGINAL.search(name):
                person, view, photo = found.groups()
                self.add(name, f"images/{person}/{view}_{photo}")

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        lists = [f"Pair_list_{kind}.txt" for kind in "FP"]
        lists += [f"Split/{protocol}/{fold:02d}/{label}.txt"
                  for protocol in ("FF", "FP") for fold in range(1, 11) for label in ("same", "diff")]  # fmt: skip
        places = {name: self.source.find(name) for name in lists}
        if missing := [name for name, place in places.items() if place is None]:
            raise UserError(f"{self.label}: no {missing[0]}", "Expected the official CFP lists, in its Protocol/.")
        contents = dict(self.source.read([place for place in places.values() if place is not None]))
        for name, place in places.items():
            write_atomic(folder / name, contents[str(place)])
        return {
            f"pairs_{protocol}.csv": write_pairs(folder, f"pairs_{protocol}.csv", read_split(folder, protocol), files)
            for protocol in ("FF", "FP")
        }

    def advice(self, folder: Path) -> str:
        return f'[dataset] name = "cfp", params = {{ root = "{folder.as_posix()}", protocol = "FP" }}'


class CelebaFormat(FolderFormat):
    """CelebA's images (aligned or in the wild) with ``identity_CelebA.txt``; its landmarks are used where they are.

    Lists are looked for in the source and beside it: ``list_landmarks_align_celeba.txt`` belongs to the images of
    178x218, ``list_landmarks_celeba.txt`` to those in the wild.
    """

    expected = "000001.jpg"

    def __init__(self, path: Path, identities: Path | None = None, landmarks: Path | None = None) -> None:
        self.path, self.given, self.landmarks = path, identities, landmarks
        super().__init__(path)

    def prepare(self) -> None:
        text = self._list("identity_CelebA.txt", self.given)
        if text is None:
            raise UserError(
                f"no identity_CelebA.txt in {self.path} or beside it", "CelebA gives it apart:  --identities FILE"
            )
        people = dict(_table(text, "identity_CelebA.txt", 1, str))
        wild = any(name.startswith("img_celeba/") or "/img_celeba/" in name for name in self.source.sizes)
        marks = self._list(f"list_landmarks_{'' if wild else 'align_'}celeba.txt", self.landmarks)
        points = dict(_table(marks, "the landmarks", 10, float)) if marks else {}
        for name, pure in images_of(self.source):
            person = people.get(pure.name)
            if person is None:
                self.left_out[name] = "no identity in the list"
                continue
            known = points.get(pure.name)
            self.add(name, f"images/{person[0]}/{pure.stem}", None if known is None else np.reshape(known, (5, 2)))

    def _list(self, name: str, given: Path | None) -> str | None:
        inside = self.source.find(name)
        beside = [given] if given else [self.path.parent / name, self.path.parent / "Anno" / name]
        for path in beside:
            if path.is_file():
                return text_of(path)
        if given:
            raise UserError(f"no file at {given}", "")
        return self.source.text(inside) if inside else None


def text_of(path: Path) -> str:
    """A list beside the source.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}", "Use the official list.") from error


def images_of(source: Source) -> Iterator[tuple[str, PurePosixPath]]:
    """The images of a source in the order of their names, by suffix."""
    for name in sorted(source.sizes):
        pure = PurePosixPath(name)
        if pure.suffix.lower() in SUFFIXES:
            yield name, pure


def write_pairs(folder: Path, name: str, rows: Rows, files: Mapping[str, str]) -> dict[str, int]:
    """``images/NAME``, for the data set ``folder``: the pairs whose photos were both kept."""
    lines, lost = [], 0
    for left, right, same, fold in rows:
        found = [files.get(side.rpartition(".")[0] or side) for side in (left, right)]
        if None in found:
            lost += 1
            continue
        a, b = (str(file).removeprefix("images/") for file in found)
        lines.append(f"{a},{b},{int(same)},{fold}\n")
    write_atomic(folder / "images" / name, "".join(lines).encode())
    return {"kept": len(lines), "lost": lost}


def _table(text: str, what: str, columns: int, read: Callable[[str], Value]) -> Iterator[tuple[str, list[Value]]]:
    """Rows of an image's name and ``columns`` values; a count and a heading before them are skipped."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) != columns + 1 or "." not in words[0]:
            if number <= 2 or not words:
                continue
            raise UserError(f"{what}, line {number}: expected an image and {columns} values, got {line!r:.80}", "")
        try:
            yield words[0], [read(word) for word in words[1:]]
        except ValueError as error:
            raise UserError(f"{what}, line {number}: {error}", "Use the official list.") from error
