"""What the formats have in common, and those that are folders of images: lfw, cfp, celeba, folder."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shlex import join
from typing import Any, TypeVar

import numpy as np

from ppfr_bench.datasets._files import Rows, check_people
from ppfr_bench.datasets.cfp import list_names, read_split
from ppfr_bench.datasets.detection import Points
from ppfr_bench.datasets.lfw import read_pairs
from ppfr_bench.datasets.preparation.source import LARGEST, open_source
from ppfr_bench.errors import UserError
from ppfr_bench.files import NO_IMAGE, folded, kind_by_name, write_atomic
from ppfr_bench.text import printable, read_text

Value = TypeVar("Value")
_UNFIT = re.compile(  # Some file system cannot take these as names.
    r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$|^$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE
)


@dataclass(frozen=True)
class Item:
    """An image of the source: where it goes (below the destination, without suffix), and its landmarks if known.

    ``points``: (5, 2) in the order of ``alignment.TEMPLATE``. ``version``: changes when the image does, as far as can
    be told without reading it.
    """

    target: str
    points: Points | None = None
    version: str = ""

    @property
    def state(self) -> list[Any]:
        """What decides the crop, beside the image's content."""
        return [self.version, None if self.points is None else np.asarray(self.points).tolist()]


@dataclass(frozen=True)
class Advice:
    """A data set that what was written opens as, and a suite to run on it."""

    dataset: str
    root: Path
    params: Mapping[str, Any]
    suite: str = "quick"

    def command(self, more: Mapping[str, Any]) -> str:
        """What to type, with further parameters of the data set."""
        words = ["ppfr-bench", "run", self.suite]
        words += [] if self.suite == "lfw_quick" else ["--dataset", self.dataset]
        words += ["--dataset-root", str(self.root)]
        for name, value in (*self.params.items(), *more.items()):
            words += ["--set", f"dataset.{name}={value}"]
        return join(words)


class Format(ABC):
    """One layout of a data set, opened on a source.

    Attributes:
        label: the source's name, for reports.
        items: by name in the source, in the order of the names.
        left_out: name -> reason, of what is known to be of no use before it is opened.
        fingerprint: of the images of the source: changes when they do, and not with a list beside them.
        aligned: the images are aligned crops of 112x112 by definition.
        placed: where a face is not found, it is taken to be where it mostly is (LFW's faces are centred).
        listed: a list beside the images says which of them are taken, and as whom.
    """

    label: str
    items: dict[str, Item]
    left_out: dict[str, str]
    fingerprint: object
    aligned = False
    placed = False
    listed = False

    @abstractmethod
    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Contents by name in the source, each of ``wanted`` once."""

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        """Write lists and pairs; ``files``: target -> file below ``folder``, of what was kept.

        Returns:
            By file of pairs: how many pairs it holds, and how many are lost with their images.
        """
        return {}

    def advice(self, folder: Path, pairs: Mapping[str, Mapping[str, int]]) -> Advice:
        """What to measure next; ``pairs``: what ``finish`` returned."""
        return Advice("folder", folder / "images", {})


class FolderFormat(Format):
    """Any folder or archive with ``.../PERSON/photo.jpg``, such as VGGFace2, CASIA-WebFace or one's own.

    One folder above all others is taken for a wrapper. Where the images lie deeper than that, ``level`` says which
    folder names the person, counted from 1 at the top: all above it are part of the name, so that ``train/001`` and
    ``test/001`` are two people, and all below it of the photo's.
    """

    expected = ".../PERSON/photo.jpg"

    def __init__(self, path: Path, level: int | None = None) -> None:
        self.source = open_source(path)
        self.label, self.level = self.source.label, level
        self.items, self.left_out = {}, dict(self.source.left_out)
        self._taken, self._people = dict[str, str](), dict[str, tuple[object, str]]()
        self.candidates = self._candidates()
        self.prepare()
        check_people(sorted({item.target.split("/")[1] for item in self.items.values()}), printable(path))
        self.fingerprint = [[name, self.source.sizes[name]] for name in self.candidates]
        if not self.items:
            few = list(dict.fromkeys(self.left_out.values()))[:3]
            raise UserError(
                f"{printable(path)}: no image found, expected {self.expected}"
                + (f" ({'; '.join(few)})" if few else ""),
                "Is it the right folder or archive?",
            )

    def _candidates(self) -> dict[str, PurePosixPath]:
        """The files that are images by their suffixes, or whose suffixes do not tell, in the order of their names."""
        found = {}
        for name in sorted(self.source.sizes):
            if kind_by_name(name) is False:
                self.left_out[name] = NO_IMAGE
            else:
                found[name] = PurePosixPath(name)
        return found

    def prepare(self) -> None:
        """Fill ``items`` and ``left_out``."""
        folders = {name: pure.parts[:-1] for name, pure in self.candidates.items()}
        known = [parts for name, parts in folders.items() if kind_by_name(name) and parts] or [*folders.values()]
        shared = _shared(known)
        level = self.level or min(shared + 1, max(map(len, known), default=1))
        if self.level is None and (deeper := [parts for parts in known if len(parts) > level]):
            raise _ask_for_level(deeper[0], known)
        wrapper = min(shared, level - 1)
        for name, parts in folders.items():
            if len(parts) < level:
                self.left_out[name] = "in no person's folder"
            else:
                person = "__".join(map(_spelt, parts[wrapper:level]))
                photo = "__".join(map(_spelt, (*parts[level:], self.candidates[name].stem)))
                self.add(name, f"images/{person}/{photo}", parts[:level])

    def add(self, name: str, target: str, person: object = None, points: Points | None = None) -> None:
        """An image, unless its name is not fit for a file or another one has it already.

        Raises:
            UserError: two ``person`` come to one folder.
        """
        key = folded(target)
        if any(_UNFIT.search(part) or len(part.encode()) > 200 for part in target.split("/")):
            self.left_out[name] = "a name that not every file system can take"
            return
        if person is not None:
            self._check_person(key.rpartition("/")[0], person, name)
        if self.source.sizes[name] > LARGEST:
            self.left_out[name] = "larger than 64 MB"
        elif key in self._taken:
            self.left_out[name] = f"another image has the same person and name: {printable(self._taken[key])}"
        else:
            self._taken[key] = name
            self.items[name] = Item(target, points, str(self.source.sizes[name]))

    def _check_person(self, folder: str, person: object, name: str) -> None:
        other, first = self._people.setdefault(folder, (person, name))
        if other != person:
            raise UserError(
                f"{self.label}: the people of {printable(first)} and {printable(name)} would share one folder",
                "Rename one of their folders.",
            )

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        yield from self.source.read(wanted)


def _shared(folders: Sequence[Sequence[str]]) -> int:
    """How many folders lie above every image alike."""
    levels = zip(*folders, strict=False)
    return next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), min(map(len, folders), default=0))


def _ask_for_level(example: Sequence[str], known: Sequence[Sequence[str]]) -> UserError:
    """Why it cannot be told who is on the images, with what each level would come to."""
    deepest = len(example)
    levels = [
        f"--person-level {level} (as in {printable('/'.join(example[:level]))}: "
        f"{len({tuple(parts[:level]) for parts in known if len(parts) >= level})} people)"
        for level in range(1, deepest + 1)
    ]
    return UserError(
        f"images lie {deepest} folders deep, as in {printable('/'.join(example))}: which folder names the person?",
        "Type one of:  " + "  or  ".join(levels),
    )


def _spelt(name: str) -> str:
    """A name that every file system takes: bytes that are not UTF-8 are written as ``%E9``."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in name)


class LfwFormat(FolderFormat):
    """LFW's archive (``lfw.tgz``, funneled or not) or its folder, and ``pairs.txt``: the photos of the protocol."""

    expected = "NAME/NAME_0001.jpg"
    placed = True
    listed = True

    def __init__(self, path: Path, pairs: Path | None = None) -> None:
        self.path, self.given = path, pairs
        super().__init__(path)

    def prepare(self) -> None:
        self.pairs_text = self._find_pairs()
        self.rows = read_pairs(self.pairs_text, "pairs.txt")
        named = {side.removeprefix("images/").removesuffix(".jpg") for row in self.rows for side in row[:2]}
        found = set()
        for name, pure in self.candidates.items():
            photo = f"{pure.parent.name}/{pure.stem}"
            if photo not in named:
                self.left_out[name] = "not in pairs.txt"
                continue
            found.add(photo)
            self.add(name, f"images/{photo}")
        for photo in sorted(named - found):
            self.left_out[f"{photo}.jpg"] = "named by pairs.txt, and not in the source"

    def _find_pairs(self) -> str:
        inside = self.source.find("pairs.txt")
        if self.given is None and inside is not None:
            self.left_out.pop(inside, None)
            return self.source.text(inside)
        beside = self.given or self.path.parent / "pairs.txt"
        if not beside.is_file():
            raise UserError(
                f"no pairs.txt in {printable(self.path)} or beside it", "It is a download of its own:  --pairs FILE"
            )  # fmt: skip
        return read_text(beside, "Use the official list.")

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        write_atomic(folder / "pairs.txt", self.pairs_text.encode())
        return {"pairs.csv": write_pairs(folder, "pairs.csv", self.rows, files)}

    def advice(self, folder: Path, pairs: Mapping[str, Mapping[str, int]]) -> Advice:
        return Advice("lfw", folder, _missing(pairs), "lfw_quick")


class CfpFormat(FolderFormat):
    """CFP as published (``Data/Images/001/frontal/01.jpg``, ``Protocol/``), or as this module writes it."""

    expected = "001/frontal/01.jpg or 001/frontal_01.jpg"
    _ORIGINAL = re.compile(r"(?:^|/)(\d{3})/(frontal|profile)[/_](\d{2})\.\w+$")

    def prepare(self) -> None:
        places = {name: self.source.find(name) for name in list_names()}
        if missing := [name for name, place in places.items() if place is None]:
            raise UserError(f"{self.label}: no {missing[0]}", "Expected the official CFP lists, in its Protocol/.")
        self.lists = {name: self.source.text(str(place)) for name, place in places.items()}
        for place in places.values():
            self.left_out.pop(str(place), None)
        self.rows = {protocol: read_split(self.lists.__getitem__, protocol) for protocol in ("FF", "FP")}
        for name in self.candidates:
            if found := self._ORIGINAL.search(name):
                person, view, photo = found.groups()
                self.add(name, f"images/{person}/{view}_{photo}")
            else:
                self.left_out[name] = f"not of the layout {self.expected}"

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        for name, text in self.lists.items():
            write_atomic(folder / name, text.encode())
        return {
            f"pairs_{protocol}.csv": write_pairs(folder, f"pairs_{protocol}.csv", rows, files)
            for protocol, rows in self.rows.items()
        }

    def advice(self, folder: Path, pairs: Mapping[str, Mapping[str, int]]) -> Advice:
        return Advice("cfp", folder, {"protocol": "FP"} | _missing(pairs))


class CelebaFormat(FolderFormat):
    """CelebA's images (aligned or in the wild) with ``identity_CelebA.txt``; its landmarks are used where they are.

    Lists are looked for in the source and beside it: ``list_landmarks_align_celeba.txt`` belongs to the images of
    178x218, ``list_landmarks_celeba.txt`` to those in the wild.
    """

    expected = "000001.jpg"
    listed = True

    def __init__(self, path: Path, identities: Path | None = None, landmarks: Path | None = None) -> None:
        self.path, self.given, self.landmarks = path, identities, landmarks
        super().__init__(path)

    def prepare(self) -> None:
        text = self._list("identity_CelebA.txt", self.given)
        if text is None:
            raise UserError(
                f"no identity_CelebA.txt in {printable(self.path)} or beside it",
                "CelebA gives it apart:  --identities FILE",
            )
        people = _by_image(_table(text, "identity_CelebA.txt", 1, str), "identity_CelebA.txt")
        wild = [name for name in self.candidates if name.startswith("img_celeba/") or "/img_celeba/" in name]
        if 0 < len(wild) < len(self.candidates):
            other = next(name for name in self.candidates if name not in wild)
            raise UserError(
                f"{self.label} holds images in the wild ({printable(wild[0])}) and others ({printable(other)}), which "
                "have one name and landmarks of their own",
                "Give one of the two folders, with the lists beside it or as --identities and --landmarks.",
            )
        name = f"list_landmarks_{'' if wild else 'align_'}celeba.txt"
        marks = self._list(name, self.landmarks)
        points = _by_image(_table(marks, name, 10, float), name) if marks else {}
        for name, pure in self.candidates.items():
            person = people.get(pure.stem)
            if person is None:
                self.left_out[name] = "no identity in the list"
                continue
            known = points.get(pure.stem)
            where = None if known is None else np.reshape(known, (5, 2))
            self.add(name, f"images/{person[0]}/{pure.stem}", None, where)

    def _list(self, name: str, given: Path | None) -> str | None:
        inside = self.source.find(name)
        beside = [given] if given else [self.path.parent / name, self.path.parent / "Anno" / name]
        for path in beside:
            if path.is_file():
                return read_text(path, "Use the official list.")
        if given:
            raise UserError(f"no file at {printable(given)}", "Give CelebA's list.")
        if inside is not None:
            self.left_out.pop(inside, None)
        return self.source.text(inside) if inside else None


def _missing(pairs: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The parameter under which a protocol is measured without the photographs that it has lost."""
    return {"missing": "skip"} if any(count["lost"] for count in pairs.values()) else {}


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


def _by_image(rows: Iterator[tuple[str, list[Value]]], what: str) -> dict[str, list[Value]]:
    """Rows by the image's name without its suffix: CelebA's lists say .jpg of its PNG files, too.

    Raises:
        UserError: an image is there twice, with other values.
    """
    found: dict[str, list[Value]] = {}
    for name, values in rows:
        if found.setdefault(PurePosixPath(name).stem, values) != values:
            raise UserError(f"{what}: {name} is there twice, with other values", "Use the official list.")
    return found


def _table(text: str, what: str, columns: int, read: Callable[[str], Value]) -> Iterator[tuple[str, list[Value]]]:
    """Rows of an image's name and ``columns`` values; a count and a heading before them are skipped."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) != columns + 1 or "." not in words[0]:
            if number <= 2 or not words:
                continue
            raise UserError(
                f"{what}, line {number}: expected an image and {columns} values, got {line!r:.80}",
                "Use the official list.",
            )
        try:
            yield words[0], [read(word) for word in words[1:]]
        except ValueError as error:
            raise UserError(f"{what}, line {number}: {error}", "Use the official list.") from error
