"""Labeled Faces in the Wild: folds 1-5 are the attacker's people, folds 6-10 are measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydantic import Field

from ppfr_bench.api import Config, DatasetCard, Faces
from ppfr_bench.datasets._files import Photos, find_photos, inside, root_of, thin, to_pairs
from ppfr_bench.datasets.faces import FileFaces, subset
from ppfr_bench.datasets.pairs import gallery_and_targets
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError

FIRST_MEASURED_FOLD = 5  # from 0: folds 6-10
CFP_IDENTITIES = 100_000  # CFP's people are numbered from here on, LFW's from 0


class LfwConfig(Config):
    """``pairs_per_fold``: at most so many of the 600; ``attacker``: at most so many of the attacker's photos.

    ``cfp_root``: CFP's folder, whose people then are the attacker's too, without the 176 who are in both.
    """

    root: str | None = None
    cfp_root: str | None = None
    pairs_per_fold: int | None = Field(None, ge=2)
    attacker: int | None = Field(None, ge=2)
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)


class Lfw(OnSyntheticDefender):
    """``pairs.txt`` and ``images/NAME/NAME_0001.jpg``, aligned to the ArcFace template.

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
        rows = read_pairs(root / "pairs.txt")
        for number, row in enumerate(rows, start=2):
            for name in row[:2]:
                inside(root, name, f"{root / 'pairs.txt'}, line {number}")
        people = {name: name.split("/")[1] for row in rows for name in row[:2]}
        photos = Photos(root, people)
        measured = [row for row in rows if row[3] >= FIRST_MEASURED_FOLD]
        training = {name for row in rows if row[3] < FIRST_MEASURED_FOLD for name in row[:2]}
        chosen = thin(measured, config.pairs_per_fold)
        attacker, more = photos.faces(training), ""
        if config.cfp_root is not None:
            attacker, more = _with_cfp(attacker, Path(config.cfp_root))
        self.attacker = subset(attacker, range(len(attacker))[: config.attacker])
        everyone = photos.faces({name for row in measured for name in row[:2]})
        self.evaluation = everyone
        if config.pairs_per_fold is not None:  # a photo of the pairs, or of the gallery and targets below
            self.evaluation = _smaller(photos, everyone, chosen, config)
        self.pairs = to_pairs(chosen, self.evaluation)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        self.canary = photos.faces(), to_pairs(rows, photos.faces())
        both = np.intersect1d(self.evaluation.identities, self.attacker.identities)
        if len(both):
            raise UserError(
                f"pairs.txt: {len(both)} people are in folds 1-5 and in 6-10", "Use the official pairs.txt."
            )
        settings = config.model_dump_json(exclude={"root", "cfp_root"})
        text = f"{self.version} {settings} {photos.digest()} {(root / 'pairs.txt').read_text(encoding='utf-8')}{more}"
        self.revision = f"lfw-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _with_cfp(attacker: FileFaces, root: Path) -> tuple[FileFaces, str]:
    """The attacker's photos, then those of CFP, and a digest of the latter.

    Raises:
        UserError: no CFP there, or no list of the people to leave out.
    """
    overlap = root / "lfw_name_overlap.txt"
    if not overlap.is_file():
        raise UserError(f"no lfw_name_overlap.txt in {root}", "Lines are CFP-ID<tab>CFP name<tab>LFW name.")
    both = {line.split("\t")[0].strip() for line in overlap.read_text(encoding="utf-8").splitlines()}
    found = find_photos(root, "images/*/*")
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


def read_pairs(path: Path) -> list[tuple[str, str, bool, int]]:
    """(left, right, same, fold) of LFW's ``pairs.txt``, the photos as ``images/NAME/NAME_0001.jpg``.

    Raises:
        UserError: no such file, or a line that is no pair.
    """
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}", "Expected LFW's pairs.txt beside the folder images/.")
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        folds, size = (int(word) for word in lines[0].split())
    except (IndexError, ValueError) as error:
        raise UserError(f"{path}, line 1: expected '10<tab>300'", "Use the official pairs.txt.") from error
    rows: list[tuple[str, str, bool, int]] = []
    for number, line in enumerate(lines[1:], start=2):
        words = line.split("\t")
        if len(words) == 3:
            left, right = (words[0], words[1]), (words[0], words[2])
        elif len(words) == 4:
            left, right = (words[0], words[1]), (words[2], words[3])
        else:
            raise UserError(f"{path}, line {number}: expected a pair, got {line!r}", "Use the official pairs.txt.")
        names = []
        for person, photo in (left, right):
            if not photo.isdigit():
                raise UserError(f"{path}, line {number}: expected a photo's number, got {photo!r}", "")
            names.append(f"images/{person}/{person}_{int(photo):04d}.jpg")
        rows.append((names[0], names[1], len(words) == 3, len(rows) // (2 * size)))
    if len(rows) != folds * 2 * size:
        raise UserError(f"{path}: expected {folds * 2 * size} pairs, got {len(rows)}", "Use the official pairs.txt.")
    return rows
