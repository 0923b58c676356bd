"""Celebrities in Frontal-Profile: frontal against frontal (FF), or against profile (FP)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from ppfr_bench.api import Config, DatasetCard
from ppfr_bench.datasets._files import Missing, Photos, Rows, photos_of, root_of, to_pairs
from ppfr_bench.datasets.pairs import gallery_and_targets
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError
from ppfr_bench.text import read_text

FOLDS = 10
FIRST_MEASURED_FOLD = 5  # Folds count from 0: these are folds 6-10.


class CfpConfig(Config):
    """``protocol``: FF or FP, 7,000 pairs each.

    ``missing``: ``skip`` leaves out the pairs of photographs that are not there: less than the protocol is measured.
    """

    root: str | None = None
    protocol: Literal["FF", "FP"] = "FF"
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)
    missing: Missing = "refuse"


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
        self.root = root

        def text_of(name: str) -> str:
            if not (root / name).is_file():
                raise UserError(f"no {name} in {root}", "Expected the official CFP lists and split.")
            return read_text(root / name)

        rows = photos_of(root, read_split(text_of, config.protocol), "the CFP split", config.missing)
        photos = Photos(root, {name: name.split("/")[1] for row in rows for name in row[:2]})
        measured = [row for row in rows if row[3] >= FIRST_MEASURED_FOLD]
        tested = {name.split("/")[1] for row in measured for name in row[:2]}
        training = {name for row in rows for name in row[:2] if name.split("/")[1] not in tested}
        self.evaluation = photos.faces({name for row in measured for name in row[:2]})
        self.poses = tuple(name.split("/")[2].split("_")[0] for name in self.evaluation.names)
        if not training:
            raise UserError(f"{root}/Split: every person of folds 1-5 is in folds 6-10 too", "Use the official split.")
        self.attacker = photos.faces(training)
        self.pairs = to_pairs(measured, self.evaluation)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        self.canary = photos.faces(), to_pairs(rows, photos.faces())
        split = hashlib.sha256(repr(rows).encode()).hexdigest()
        # Revisions from before this parameter stay as they are.
        default = {"missing"} if config.missing == "refuse" else set()
        text = f"{self.version} {config.model_dump_json(exclude={'root'} | default)} {photos.digest()} {split}"
        self.revision = f"cfp-{config.protocol.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def list_names() -> list[str]:
    """The lists of both protocols, as they are published."""
    splits = [f"Split/{protocol}/{fold + 1:02d}/{label}.txt"
              for protocol in ("FF", "FP") for fold in range(FOLDS) for label in ("same", "diff")]  # fmt: skip
    return [f"Pair_list_{kind}.txt" for kind in "FP"] + splits


def read_split(text_of: Callable[[str], str], protocol: str) -> Rows:
    """(left, right, same, fold) of a protocol, FF or FP, the photos as ``images/001/frontal_01.jpg``.

    Args:
        text_of: the text of a list by its name; raises UserError for one that is not there.

    Raises:
        UserError: as ``text_of``, or a line that is no pair.
    """
    lists = {kind: _read_list(text_of(f"Pair_list_{kind}.txt"), f"Pair_list_{kind}.txt") for kind in ("F", "P")}
    left, right = lists[protocol[0]], lists[protocol[1]]
    rows = []
    for fold in range(FOLDS):
        for label in ("same", "diff"):
            name = f"Split/{protocol}/{fold + 1:02d}/{label}.txt"
            for number, line in enumerate(text_of(name).split(), start=1):
                a, comma, b = line.partition(",")
                if not comma or a not in left or b not in right:
                    raise UserError(
                        f"{name}, line {number}: expected two rows of the pair lists, got {line!r:.80}",
                        "Use the official list.",
                    )
                rows.append((left[a], right[b], label == "same", fold))
    return rows


def _read_list(text: str, name: str) -> dict[str, str]:
    """Row -> ``images/001/frontal_01.jpg``."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        row, _, image = line.strip().partition(" ")
        parts = image.strip().split("/")
        if not line.strip():
            continue
        if len(parts) < 3:
            raise UserError(f"{name}, line {number}: expected 'ROW PATH', got {line!r:.80}", "Use the official list.")
        if row in found:
            raise UserError(f"{name}, line {number}: row {row} is there twice", "Use the official list.")
        person, view, photo = parts[-3:]
        if not all(re.fullmatch(r"[0-9A-Za-z_-]+(\.[A-Za-z]+)?", part) for part in (person, view, photo)):
            raise UserError(f"{name}, line {number}: expected 'ROW PATH', got {line!r:.80}", "Use the official list.")
        found[row] = f"images/{person}/{view}_{photo}"
    return found


DATASET = Cfp
