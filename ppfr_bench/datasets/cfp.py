"""Celebrities in Frontal-Profile: frontal against frontal (FF), or against profile (FP)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from ppfr_bench.api import Config, DatasetCard
from ppfr_bench.datasets._files import Photos, inside, root_of, to_pairs
from ppfr_bench.datasets.pairs import gallery_and_targets
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError

FOLDS = 10
FIRST_MEASURED_FOLD = 5  # from 0: folds 6-10


class CfpConfig(Config):
    """``protocol``: FF or FP, 7,000 pairs each."""

    root: str | None = None
    protocol: Literal["FF", "FP"] = "FF"
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)


class Cfp(OnSyntheticDefender):
    """``Split/FF|FP/NN/{same,diff}.txt``, ``Pair_list_{F,P}.txt`` and ``images/ID/{frontal,profile}_NN.jpg``.

    Measured are the pairs of folds 6-10; people of folds 1-5 who are in none of those are the attacker's. The
    canary is the whole protocol.
    """

    version = 1
    card = DatasetCard(
        title="CFP, frontal to profile",
        reference="Sengupta et al., Frontal to Profile Face Verification in the Wild, WACV 2016",
        licence="research use; photographs of celebrities",
        real_people=True,
    )
    Config = CfpConfig

    def __init__(self, config: CfpConfig) -> None:
        self.name, self.config = "cfp", config
        root = root_of(config.root, "PPFR_BENCH_CFP", "CFP (Split/, Pair_list_*.txt and images/)")
        rows = read_split(root, config.protocol)
        for name in sorted({name for row in rows for name in row[:2]}):
            inside(root, name, "the CFP split")
        photos = Photos(root, {name: name.split("/")[1] for row in rows for name in row[:2]})
        measured = [row for row in rows if row[3] >= FIRST_MEASURED_FOLD]
        tested = {name.split("/")[1] for row in measured for name in row[:2]}
        training = {name for row in rows for name in row[:2] if name.split("/")[1] not in tested}
        self.evaluation = photos.faces({name for row in measured for name in row[:2]})
        if not training:
            raise UserError(f"{root}/Split: every person of folds 1-5 is in folds 6-10 too", "Use the official split.")
        self.attacker = photos.faces(training)
        self.pairs = to_pairs(measured, self.evaluation)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        self.canary = photos.faces(), to_pairs(rows, photos.faces())
        split = hashlib.sha256(repr(rows).encode()).hexdigest()
        text = f"{self.version} {config.model_dump_json(exclude={'root'})} {photos.digest()} {split}"
        self.revision = f"cfp-{config.protocol.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_split(root: Path, protocol: str) -> list[tuple[str, str, bool, int]]:
    """(left, right, same, fold) of a protocol, FF or FP, the photos as ``images/001/frontal_01.jpg``.

    Raises:
        UserError: a list or a split that is not there, or a line that is no pair.
    """
    lists = {kind: _read_list(root, kind) for kind in ("F", "P")}
    left, right = lists[protocol[0]], lists[protocol[1]]
    rows = []
    for fold in range(FOLDS):
        for label in ("same", "diff"):
            path = root / "Split" / protocol / f"{fold + 1:02d}" / f"{label}.txt"
            if not path.is_file():
                raise UserError(f"no {path.relative_to(root)} in {root}", "Expected the official CFP split.")
            for number, line in enumerate(path.read_text(encoding="utf-8").split(), start=1):
                a, comma, b = line.partition(",")
                if not comma or a not in left or b not in right:
                    raise UserError(f"{path}, line {number}: expected two rows of the pair lists, got {line!r}", "")
                rows.append((left[a], right[b], label == "same", fold))
    return rows


def _read_list(root: Path, kind: str) -> dict[str, str]:
    """Row -> ``images/001/frontal_01.jpg``."""
    path = root / f"Pair_list_{kind}.txt"
    if not path.is_file():
        raise UserError(f"no {path.name} in {root}", "Expected the official CFP lists.")
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row, _, image = line.strip().partition(" ")
        parts = image.strip().split("/")
        if len(parts) < 3:
            raise UserError(f"{path}: expected 'ROW PATH', got {line!r}", "Use the official list.")
        person, view, photo = parts[-3:]
        found[row] = f"images/{person}/{view}_{photo}"
    return found
