"""Any folder of identities: ROOT/PERSON/photo.jpg, with a file of pairs or with generated ones."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from pydantic import Field

from ppfr_bench.api import Config, DatasetCard, Faces, Pairs
from ppfr_bench.datasets._files import Photos, find_photos, inside, root_of, to_pairs
from ppfr_bench.datasets.pairs import gallery_and_targets, generate_pairs, measured_people
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError
from ppfr_bench.files import summary
from ppfr_bench.text import read_text


class FolderConfig(Config):
    """``pairs``: a file in the folder, lines ``left,right,same[,fold]`` of relative paths, same 1 or 0; else generated.

    ``evaluation_share``: of the identities; the others are the attacker's. ``attacker_folds``: with a file of pairs, so
    many of its first folds are not measured, and their people are the attacker's, as in ``lfw`` and ``cfp`` (there: 5).
    """

    root: str | None = None
    pairs: str | None = None
    seed: int = Field(0, ge=0)
    folds: int = Field(10, ge=2)
    attacker_folds: int = Field(0, ge=0)
    evaluation_share: float = Field(0.5, gt=0, lt=1)
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)


class Folder(OnSyntheticDefender):
    """Aligned 112x112 photographs, one subfolder a person; split by identity from the seed.

    With a file of pairs, the people it names are measured and all others are the attacker's; its folds are taken as
    they are (without a fourth column, lines in turn), so disjoint people are its author's care. The canary is then the
    whole file. They are taken for real people: none of their faces reaches a report.
    """

    version = 1
    card = DatasetCard(title="A folder of identities", reference="the user's", licence="the user's", real_people=True)
    Config = FolderConfig

    def __init__(self, config: FolderConfig) -> None:
        self.name, self.config = "folder", config
        root = root_of(config.root, "PPFR_BENCH_FOLDER", "a folder of identities (ROOT/PERSON/photo.jpg)")
        self.root = root
        found = find_photos(root)
        photos, self.notes = Photos(root, found.people), summary(found.left_out)
        rows = _read_pairs(root, config.pairs, set(photos.names)) if config.pairs else []
        people = photos.identities
        everyone = np.unique(people)
        if len(everyone) < 2:
            raise UserError(
                f"{root}: one identity only; verification needs two or more", "Expected ROOT/PERSON/photo.jpg."
            )
        measured_rows = _later(rows, config.attacker_folds)
        if rows:
            tested = np.unique([photos.identity(name) for row in measured_rows for name in row[:2]])
        else:
            tested = measured_people(people, config.evaluation_share, config.seed)
        measured = np.isin(people, tested)
        self.evaluation = photos.faces(photos.names[i] for i in np.flatnonzero(measured))
        self.attacker = photos.faces(photos.names[i] for i in np.flatnonzero(~measured))
        if len(np.unique(self.attacker.identities)) < 2:
            raise UserError(
                f"{root}: {len(everyone)} identities leave fewer than two to the attacker",
                "Add people, name fewer in the pairs, or give the people of its first folds:  attacker_folds = 5",
            )
        if rows:
            self.pairs = to_pairs(measured_rows, self.evaluation)
        else:
            if len(tested) < 2 * config.folds:
                raise UserError(
                    f"{root}: {config.folds} folds need {2 * config.folds} measured people, there are {len(tested)}",
                    f"Add people, or type:  --set dataset.folds={max(2, len(tested) // 2)}",
                )
            self.pairs = generate_pairs(self.evaluation.identities, config.folds, config.seed)
        self.canary = self.evaluation, self.pairs
        if config.attacker_folds:
            everything = photos.faces()
            self.canary = everything, to_pairs(rows, everything)
        _check(*self.canary, root)
        _check(self.evaluation, self.pairs, root)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        if not len(self.targets):
            raise UserError(f"{root}: no measured person has a second photo", "Add photos.")
        # Revisions from before this parameter stay as they are.
        default = set() if config.attacker_folds else {"attacker_folds"}
        settings = config.model_dump_json(exclude={"root", "pairs"} | default)
        text = f"{self.version} {settings} {photos.digest()} {rows!r}"
        self.revision = f"folder-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _check(faces: Faces, pairs: Pairs, root: Path) -> None:
    """Genuine and impostor pairs are there, they say the truth, and the folds are two or more."""
    truth = faces.identities[pairs.left] == faces.identities[pairs.right]
    if not pairs.same.any() or pairs.same.all():
        raise UserError(
            f"{root}: expected both genuine and impostor pairs, got one kind", "Add photos of one person, or people."
        )
    if (truth != pairs.same).any():
        i = int(np.flatnonzero(truth != pairs.same)[0])
        left, right = (faces.names[int(side[i])] for side in (pairs.left, pairs.right))
        raise UserError(
            f"the pair {left}, {right} says same={int(pairs.same[i])}, its folders disagree", "Correct the pair."
        )
    if len(np.unique(pairs.fold)) < 2:
        raise UserError("expected pairs in two folds or more, got one fold", "Give the fold as a fourth column.")


def _later(rows: list[tuple[str, str, bool, int]], folds: int) -> list[tuple[str, str, bool, int]]:
    """The pairs behind the first ``folds`` folds.

    Raises:
        UserError: there are pairs, and none or one fold of them is left.
    """
    numbers = sorted({fold for *_, fold in rows})
    if rows and folds and len(numbers) - folds < 2:
        raise UserError(
            f"attacker_folds = {folds} of {len(numbers)} folds leave fewer than two to measure", "Give fewer."
        )
    return [row for row in rows if row[3] in numbers[folds:]]


def _read_pairs(root: Path, file: str, photos: set[str]) -> list[tuple[str, str, bool, int]]:
    text = read_text(inside(root, file, "the suite"), "Lines are left,right,same[,fold].")
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = [word.strip() for word in line.replace("\t", ",").split(",")]
        if not line.strip() or line.startswith("#"):
            continue
        if (
            len(words) not in (3, 4)
            or words[2] not in ("0", "1")
            or not re.fullmatch("[0-9]{1,6}", (words[3:] or ["0"])[0])
        ):
            raise UserError(f"{file}, line {number}: expected left,right,same[,fold], got {line!r}", "same is 1 or 0.")
        for name in words[:2]:
            inside(root, name, f"{file}, line {number}")
            if name not in photos:
                raise UserError(f"{file}, line {number}: {name} is no PERSON/photo of {root}", "Name images by that.")
        if words[0] == words[1]:
            raise UserError(f"{file}, line {number}: {words[0]} is paired with itself", "Remove the line.")
        fold = int(words[3]) if len(words) == 4 else number % 10
        rows.append((words[0], words[1], words[2] == "1", fold))
    if not rows:
        raise UserError(f"{file} holds no pair", "Lines are left,right,same[,fold].")
    return rows


DATASET = Folder
