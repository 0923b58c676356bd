"""Labeled Faces in the Wild: folds 1-5 are the attacker's people, folds 6-10 are measured."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from pydantic import Field

from ppfr_bench.api import Config, DatasetCard, Faces
from ppfr_bench.datasets._files import Missing, Photos, Rows, find_photos, photos_of, root_of, thin, to_pairs
from ppfr_bench.datasets.faces import FileFaces, subset
from ppfr_bench.datasets.pairs import gallery_and_targets
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError
from ppfr_bench.text import read_text

FIRST_MEASURED_FOLD = 5  # Folds count from 0: these are folds 6-10.
CFP_IDENTITIES = 100_000  # CFP's people are numbered from here on, LFW's from 0.


_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")  # In the name of a person it would be a path, or unseen.


class LfwConfig(Config):
    """``pairs_per_fold``: at most so many of the 600; ``attacker``: at most so many of the attacker's photos.

    ``cfp_root``: CFP's folder, whose people then are the attacker's too, without the 176 who are in both. ``missing``:
    ``skip`` leaves out the pairs of photographs that are not there, so that less than the protocol is measured.
    """

    root: str | None = None
    cfp_root: str | None = None
    pairs_per_fold: int | None = Field(None, ge=2)
    attacker: int | None = Field(None, ge=2)
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)
    missing: Missing = "refuse"


class Lfw(OnSyntheticDefender):
    """``pairs.txt`` and ``images/NAME/NAME_0001.jpg`` (or .png and the like), aligned to the ArcFace template.

    The folds of the protocol share no person. With ``cfp_root`` the attacker has CFP's people too. The defender's
    training identities are the synthetic ones: no real person is left over for it. The canary is the standard
    protocol, all 6,000 pairs.
    """

    version = 1
    card = DatasetCard(
        title="Labeled Faces in the Wild",
        reference="Huang et al., UMass Amherst 07-49, 2007; 6,000 pairs of View 2",
        licence="research use; photographs from the news",
        real_people=True,
    )
    Config = LfwConfig

    def __init__(self, config: LfwConfig) -> None:
        self.name, self.config = "lfw", config
        root = root_of(config.root, "PPFR_BENCH_LFW", "LFW (pairs.txt and images/)")
        self.root = root
        protocol = _read_list(root, "pairs.txt", "Expected LFW's pairs.txt beside the folder images/.")
        rows = photos_of(root, read_pairs(protocol, f"{root / 'pairs.txt'}"), "pairs.txt", config.missing, first_line=2)
        people = {name: name.split("/")[1] for row in rows for name in row[:2]}
        photos = Photos(root, people)
        measured = [row for row in rows if row[3] >= FIRST_MEASURED_FOLD]
        training = {name for row in rows if row[3] < FIRST_MEASURED_FOLD for name in row[:2]}
        chosen = thin(measured, config.pairs_per_fold)
        attacker, more = photos.faces(training), ""
        if config.cfp_root is not None:
            attacker, more = _with_cfp(attacker, root_of(config.cfp_root, "PPFR_BENCH_CFP", "CFP"))
        self.attacker = subset(attacker, range(len(attacker))[: config.attacker])
        everyone = photos.faces({name for row in measured for name in row[:2]})
        self.evaluation = everyone
        if config.pairs_per_fold is not None:  # Only photos of the pairs, the gallery and the targets stay.
            self.evaluation = _smaller(photos, everyone, chosen, config)
        self.pairs = to_pairs(chosen, self.evaluation)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        self.canary = photos.faces(), to_pairs(rows, photos.faces())
        both = np.intersect1d(self.evaluation.identities, self.attacker.identities)
        if len(both):
            raise UserError(
                f"pairs.txt: {len(both)} people are in folds 1-5 and in 6-10", "Use the official pairs.txt."
            )
        # Revisions from before this parameter stay as they are.
        default = {"missing"} if config.missing == "refuse" else set()
        settings = config.model_dump_json(exclude={"root", "cfp_root"} | default)
        text = f"{self.version} {settings} {photos.digest()} {protocol}{more}"
        self.revision = f"lfw-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _with_cfp(attacker: FileFaces, root: Path) -> tuple[FileFaces, str]:
    """The attacker's photos, then those of CFP, and a digest of the latter.

    Raises:
        UserError: no CFP there, or no list of the people to leave out.
    """
    overlap = _read_list(root, "lfw_name_overlap.txt", "Lines are CFP-ID<tab>CFP name<tab>LFW name.")
    both = {line.split("\t")[0].strip() for line in overlap.splitlines()}
    found = find_photos(root, "images").people
    if unknown := sorted(both - set(found.values()) - {""}):
        raise UserError(
            f"lfw_name_overlap.txt names {unknown[0]}, and {root}/images holds no such person",
            "Write CFP's numbers as its folders are named, such as 007: who is not found there is not left out.",
        )
    photos = Photos(root, {name: person for name, person in found.items() if person not in both})
    extra = photos.faces()
    identities = np.concatenate([attacker.identities, extra.identities + CFP_IDENTITIES])
    names = [*attacker.names, *(f"cfp/{name}" for name in extra.names)]
    return FileFaces([*attacker.paths, *extra.paths], identities, names), photos.digest()


def _smaller(photos: Photos, everyone: Faces, chosen: list[tuple[str, str, bool, int]], config: LfwConfig) -> Faces:
    """The photos of the chosen pairs, and as many others as the gallery and the targets ask for."""
    gallery, targets = gallery_and_targets(everyone.identities, config.gallery, config.targets)
    names = {name for row in chosen for name in row[:2]}
    return photos.faces(names | {everyone.names[int(i)] for i in (*gallery, *targets)})


def _read_list(root: Path, name: str, expected: str) -> str:
    if not (root / name).is_file():
        raise UserError(f"no {name} in {root}", expected)
    return read_text(root / name, expected)


def read_pairs(text: str, where: str) -> Rows:
    """(left, right, same, fold) of LFW's ``pairs.txt``, the photos as ``images/NAME/NAME_0001.jpg``.

    Words are apart by tabs, as published, or by spaces where no name holds one.

    Args:
        text: of the file; ``where``: its name, for messages.

    Raises:
        UserError: a line that is no pair, one that contradicts itself, or another number of pairs than the first line
            says.
    """
    official = "Use the official pairs.txt: NAME<tab>1<tab>2 for one person, NAME<tab>1<tab>OTHER<tab>1 for two."
    lines = text.rstrip().split("\n")  # A line ends there alone: a name may hold no other end.
    head = re.fullmatch(r"\s*([0-9]{1,6})\s+([0-9]{1,6})\s*", lines[0] if lines else "")
    if head is None:
        first = lines[0] if lines else ""
        raise UserError(f"{where}, line 1: expected '10<tab>300', got {first!r:.80}", official)
    folds, size = int(head[1]), int(head[2])
    rows: Rows = []
    for number, line in enumerate(lines[1:], start=2):
        at = f"{where}, line {number}"
        words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split()
        if len(words) not in (3, 4):
            apart = "tabs" if "\t" in line else "tabs (a name with spaces needs them), got spaces"
            raise UserError(f"{at}: expected a pair of 3 or 4 words with {apart}, got {line!r:.80}", official)
        same = len(words) == 3
        left, right = (words[0], words[1]), (words[0 if same else 2], words[-1])
        names = []
        for person, photo in (left, right):
            if not re.fullmatch("[0-9]{1,4}", photo):
                raise UserError(f"{at}: expected a photo's number, got {photo!r:.80}", official)
            if not person or person in (".", "..") or _NO_NAME.search(person):
                raise UserError(f"{at}: expected a person's name, got {person!r:.80}", official)
            names.append(f"images/{person}/{person}_{int(photo):04d}.jpg")
        if names[0] == names[1]:
            raise UserError(f"{at}: {left[0]} {left[1]} is paired with itself", official)
        if not same and left[0] == right[0]:
            raise UserError(f"{at}: a pair of two people names {left[0]} twice", official)
        rows.append((names[0], names[1], same, len(rows) // (2 * max(size, 1))))
    if not rows or len(rows) != folds * 2 * size:
        raise UserError(f"{where}: expected {folds * 2 * size} pairs, as line 1 says, got {len(rows)}", official)
    return rows


DATASET = Lfw
