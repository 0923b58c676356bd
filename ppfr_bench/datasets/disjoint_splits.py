"""Whether anybody who is measured was trained on: by identity, by name, and by what the photograph shows.

How far perceptual_hashes lie apart, in bits of 256, measured on aligned faces:

- different people: in the synthetic set (2.5 million pairs) 45 at least, median 121; in LFW (29.6 million, median 112)
  27, 28, 30, and one pair at 4, which is one photograph under two names (Gabrielle_Rose_0001 and Martha_Bowen_0002,
  correlation 0.99, both the attacker's); in CFP (24.5 million) 19, 20, 22, 24, mostly profiles before a plain wall;
- 600 LFW photos and a copy of each, median, and share within ``DISTANCE`` = 16: JPEG at quality 75 2 and 1.00, at 30
  6 and 0.96; half the size and back 2 and 1.00; noise of 3 levels 2 and 1.00; a fifth darker 0 and 1.00, brighter 1
  and 0.99; 20 levels brighter 6 and 0.65, as highlights clip; a border of 1 px cut off 12 and 0.88, of 2 px 24 and
  0.07; moved up by 1 px 12 and 0.88, sideways 17 and 0.45, both 21 and 0.20; by 2 px both 40 and 0; mirrored 104 and
  0. The synthetic set gives the like.

So ``DISTANCE`` finds the same aligned photograph, stored or lit anew, with no false alarm among 56 million pairs; a
photograph that was aligned anew or mirrored it mostly misses. Two photos of one person are not near in LFW (median
103, of 8,101 pairs none within 16), but in the synthetic set some are (median 41).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import ByteArray, FaceDataset, Faces
from ppfr_bench.assets import cache_dir
from ppfr_bench.datasets.faces import subset
from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import digest
from ppfr_bench.stages.store import Output, StageStore, Writer

__all__ = [
    "DISTANCE",
    "WithoutCopies",
    "check_disjoint",
    "kept_perceptual_hashes",
    "near_duplicates",
    "perceptual_hashes",
]  # fmt: skip

PerceptualHashes = npt.NDArray[np.uint64]
Training = Literal["defender", "attacker"]
Split = Literal["defender", "attacker", "evaluation"]
DISTANCE = 16  # Hashes of one photograph differ in at most so many of 256 bits.
VERSION = 1  # This is part of the revision of data without copies: raise it if other images are left out.
_ROWS, _COLUMNS = 16, 17
_BITS = 256
_LUMA = (299, 587, 114)  # ITU-R BT.601 in thousandths; sums of whole numbers are exact.
_DECODED = 256  # Images decoded at a time.
_BLOCK = 1024  # Hashes a side compared at a time: 4 MiB of distances.


def perceptual_hashes(batches: Iterable[ByteArray]) -> PerceptualHashes:
    """Difference hash: of the luma's 16 x 17 area means, whether each is brighter than its left neighbour.

    Args:
        batches: uint8 (n, 3, h, w) in 0..255, any number of them, at least 16 x 17 pixels.

    Returns:
        (total n, 4), 256 bits an image. Whole-number arithmetic: the same bits on every machine.

    Source: Krawetz, Kind of Like That (dHash), 2013, at 256 bits instead of 64.
    """
    found = [_perceptual_hash(np.asarray(images)) for images in batches]
    return np.concatenate([np.empty((0, _BITS // 64), np.uint64), *found])


def _perceptual_hash(images: ByteArray) -> PerceptualHashes:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8 or min(images.shape[2:]) < _COLUMNS:
        raise UserError(
            f"A perceptual hash needs uint8 images (n, 3, h, w) of 17 pixels a side at least, got {images.dtype} "
            f"{images.shape}.",
            "Pass the stored bytes, as Faces.batches gives them.",
        )
    luma = np.einsum("nchw,c->nhw", images, np.array(_LUMA), dtype=np.float64)
    means = _areas(_ROWS, luma.shape[1]) @ luma @ _areas(_COLUMNS, luma.shape[2]).T
    brighter = means[:, :, 1:] > means[:, :, :-1]
    return np.packbits(brighter.reshape(len(images), _BITS), axis=1).view(np.uint64)


def _areas(cells: int, pixels: int) -> npt.NDArray[np.float64]:
    """(cells, pixels): the length that each pixel shares with each of equal cells, in 1 / cells of a pixel."""
    starts, lefts = np.arange(cells)[:, None] * pixels, np.arange(pixels)[None, :] * cells
    shared = np.minimum(starts + pixels, lefts + cells) - np.maximum(starts, lefts)
    return np.asarray(np.maximum(shared, 0), dtype=np.float64)


def near_duplicates(left: PerceptualHashes, right: PerceptualHashes, distance: int = DISTANCE) -> list[tuple[int, int]]:
    """Pairs (i, j) whose perceptual_hashes differ in at most ``distance`` of 256 bits, in ascending order.

    Args:
        left: (n, 4); right: (m, 4), from ``perceptual_hashes``. Compared in blocks: memory stays flat in both.
    """
    pairs: list[tuple[int, int]] = []
    for i in range(0, len(left), _BLOCK):
        a = _signs(left[i : i + _BLOCK])
        for j in range(0, len(right), _BLOCK):
            # (256 - dot) / 2 bits differ; dot products of signs are whole numbers, exact in float32.
            rows, columns = np.nonzero(a @ _signs(right[j : j + _BLOCK]).T >= _BITS - 2 * distance)
            pairs += zip((rows + i).tolist(), (columns + j).tolist(), strict=True)
    return sorted(pairs)


def _signs(prints: PerceptualHashes) -> npt.NDArray[np.float32]:
    bits = np.unpackbits(np.ascontiguousarray(prints).view(np.uint8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def kept_perceptual_hashes(dataset: FaceDataset, split: Split) -> PerceptualHashes:
    """The perceptual_hashes of a split, (n, 4); computed once a data revision, and kept in the cache of stages."""
    if isinstance(dataset, WithoutCopies):
        prints = kept_perceptual_hashes(dataset.whole, split)
        return prints if split == "evaluation" else np.delete(prints, dataset.copies(split), axis=0)

    def compute(writer: Writer) -> None:
        writer.save("prints", _decoded(dataset, split))

    return np.asarray(_stage("perceptual_hashes", {"dataset": dataset.revision, "split": split}, compute)["prints"])


def _stage(kind: str, spec: dict[str, Any], compute: Callable[[Writer], None]) -> Output:
    return StageStore(cache_dir() / "stages").get(kind, spec | {"version": VERSION}, compute)


def _decoded(dataset: FaceDataset, split: Split) -> PerceptualHashes:
    faces: Faces = getattr(dataset, split)
    return perceptual_hashes(faces.batches(_DECODED))


class WithoutCopies(FaceDataset):
    """A data set without the training images that show a measured photograph over again; the rest as in ``whole``.

    ``revision`` is another than that of the whole, whether or not there is a copy: it is known before any image is
    read. A split is looked through when it is first asked for.
    """

    def __init__(self, whole: FaceDataset) -> None:
        self.whole = whole
        self.poses = whole.poses  # The class has a value of its own, so ``__getattr__`` is not asked.
        self.revision = f"{whole.name}-{digest(['without copies', VERSION, DISTANCE, whole.revision])[:16]}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "whole":  # Unpickling asks for these before there is a whole.
            raise AttributeError(name)
        return getattr(self.whole, name)

    @cached_property
    def attacker(self) -> Faces:  # type: ignore[override]  # mypy holds a property for read-only.
        return self._less("attacker")

    @cached_property
    def defender(self) -> Faces:  # type: ignore[override]
        return self._less("defender")

    def copies(self, split: Training) -> npt.NDArray[np.int64]:
        """Rows of a split of the whole that are measured photographs, ascending; looked for once a data revision."""

        def compute(writer: Writer) -> None:
            training, measured = (kept_perceptual_hashes(self.whole, one) for one in (split, "evaluation"))
            pairs = near_duplicates(training, measured)
            writer.save("rows", np.unique([row for row, _ in pairs]).astype(np.int64))

        spec = {"dataset": self.whole.revision, "split": split, "distance": DISTANCE}
        return np.asarray(_stage("copies", spec, compute)["rows"])

    def dropped(self, split: Training) -> list[str]:
        """Names of the images that are left out of a split."""
        names = getattr(self.whole, split).names
        return [names[int(row)] for row in self.copies(split)]

    def _less(self, split: Training) -> Faces:
        """Raises:
        UserError: fewer than two people are left.
        """
        faces: Faces = getattr(self.whole, split)
        left = subset(faces, np.delete(np.arange(len(faces)), self.copies(split)))
        if (people := len(np.unique(left.identities))) < 2:
            raise UserError(
                f"without {len(faces) - len(left)} copies of measured photographs the {split} is left with {people} "
                f"people, expected two or more: {', '.join(self.dropped(split)[:3])}.",
                "Give the data set people who are not measured.",
            )
        return left


def check_disjoint(
    dataset: FaceDataset,
    splits: Sequence[Training] = ("defender", "attacker"),
    distance: int = DISTANCE,
    hashes_of: Callable[[FaceDataset, Split], PerceptualHashes] = _decoded,
) -> None:
    """Nobody of the evaluation split is in a training split: no number, no folder, no image name, no photograph.

    Identity numbers count across the splits of a data set. Folders are compared where each holds one person's photos
    only, so that a person who was numbered anew is found by name. Every image is decoded once.

    Args:
        splits: the training splits to look at; one that is not named is not loaded.
        distance: of 256 bits, up to which two photographs are taken for one.
        hashes_of: what gives the perceptual_hashes of a split, such as ``kept_perceptual_hashes``.

    Raises:
        UserError: somebody is in both, or a photograph is; the images are named.
    """
    evaluation, prints = dataset.evaluation, None
    for split in splits:
        training: Faces = getattr(dataset, split)
        by, people = _shared_people(training, evaluation)
        if people:
            raise UserError(
                f"{len(people)} people are both measured and in the {split}'s training images, by their {by}: "
                f"{_listed(people)}.",
                "Give every person to one split, and one number and folder.",
            )
        prints = hashes_of(dataset, "evaluation") if prints is None else prints
        found = near_duplicates(hashes_of(dataset, split), prints, distance)
        if pairs := [(training.names[i], evaluation.names[j]) for i, j in found]:
            raise UserError(
                f"{len(pairs)} photographs are both measured and in the {split}'s training images: {_listed(pairs)}.",
                "Type the same again with --drop-duplicates, which leaves the copies out of the training images; write "
                'drop_duplicates = true into the suite, or settings={"drop_duplicates": True} in Python. Or remove '
                "them from one split yourself.",
            )


def _shared_people(training: Faces, evaluation: Faces) -> tuple[str, list[tuple[str, str]]]:
    """By what people are found in both ("" if by nothing), and an image of each by its name in either."""
    for what, there, here in (
        ("number", _numbers(training), _numbers(evaluation)),
        ("folder", _folders(training), _folders(evaluation)),
        ("image name", _names(training), _names(evaluation)),
    ):
        if both := [key for key in here if key in there]:
            return what, [(training.names[there[key]], evaluation.names[here[key]]) for key in both]
    return "", []


def _numbers(faces: Faces) -> dict[object, int]:
    """Identity -> its first image."""
    numbers, rows = np.unique(faces.identities, return_index=True)
    return dict(zip(numbers.tolist(), rows.tolist(), strict=True))


def _names(faces: Faces) -> dict[object, int]:
    return {name: row for row, name in enumerate(faces.names)}


def _folders(faces: Faces) -> dict[object, int]:
    """Folder -> its first image, of folders with one person's photos and no other's."""
    people: dict[str, set[int]] = defaultdict(set)
    rows: dict[str, int] = {}
    for row, (name, person) in enumerate(zip(faces.names, faces.identities.tolist(), strict=True)):
        folder = name.rpartition("/")[0]
        people[folder].add(person)
        rows.setdefault(folder, row)
    return {folder: row for folder, row in rows.items() if folder and len(people[folder]) == 1}


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    return ", ".join(f"{left} and {right}" for left, right in pairs[:3]) + more
