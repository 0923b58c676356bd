"""Data in memory or behind another library's data set: taken over once, then a data set like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from ppfr_bench.api import SIZE, ByteArray, Config, DatasetCard, to_bytes
from ppfr_bench.assets import cache_dir
from ppfr_bench.datasets.faces import ArrayFaces, subset
from ppfr_bench.datasets.pairs import gallery_and_targets, generate_pairs, measured_people
from ppfr_bench.datasets.synthetic import OnSyntheticDefender
from ppfr_bench.errors import UserError
from ppfr_bench.results import write_atomic

_ALIGN = "Align it first:  ppfr-bench data prepare folder SRC DST"
_SHAPES = f"Expected uint8 or float in [0, 1], ({SIZE}, {SIZE}, 3) or (3, {SIZE}, {SIZE}), or a PIL image of that size."


class SequenceConfig(Config):
    """``content``: the digest under which ``from_sequence`` took the images over; the rest as for ``folder``."""

    content: str = Field("", pattern="^[0-9a-f]*$")
    seed: int = Field(0, ge=0)
    folds: int = Field(10, ge=2)
    evaluation_share: float = Field(0.5, gt=0, lt=1)
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)


class SequenceDataset(OnSyntheticDefender):
    """Aligned 112x112 images that ``from_sequence`` took over into the cache; split by identity from the seed.

    They are taken for real people: none of their faces reaches a report.
    """

    version = 1
    card = DatasetCard(title="Images given in Python", reference="the user's", licence="the user's", real_people=True)
    Config = SequenceConfig

    def __init__(self, config: SequenceConfig) -> None:
        self.name, self.config = "sequence", config
        faces = _stored(config.content)
        tested = measured_people(faces.identities, config.evaluation_share, config.seed)
        measured = np.isin(faces.identities, tested)
        self.evaluation = subset(faces, np.flatnonzero(measured))
        self.attacker = subset(faces, np.flatnonzero(~measured))
        left = len(np.unique(self.attacker.identities))
        if left < 2:
            raise UserError(f"{left + len(tested)} identities leave fewer than two to the attacker", "Add people.")
        if len(tested) < 2 * config.folds:
            raise UserError(
                f"{config.folds} folds need {2 * config.folds} measured people, there are {len(tested)}",
                f"Add people, or pass folds={max(2, len(tested) // 2)}.",
            )
        self.pairs = generate_pairs(self.evaluation.identities, config.folds, config.seed)
        self.gallery, self.targets = gallery_and_targets(self.evaluation.identities, config.gallery, config.targets)
        if not len(self.targets) or not self.pairs.same.any():
            raise UserError("no measured person has a second image", "Add images.")
        self.canary = self.evaluation, self.pairs
        text = f"{self.version} {config.model_dump_json()}"
        self.revision = f"sequence-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def from_sequence(
    images: Any,
    identities: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    folds: int = 10,
    evaluation_share: float = 0.5,
    gallery: int = 1000,
    targets: int = 1000,
) -> SequenceDataset:
    """A data set of the benchmark from images that are already in Python.

    Taken are a sequence of images with ``identities`` beside it; a sequence of pairs (image, identity), such as a
    map-style ``torch.utils.data.Dataset``; a Hugging Face dataset with the columns ``image`` and ``label``. An image is
    uint8 or float in [0, 1], (112, 112, 3) or (3, 112, 112), NumPy or torch, or a PIL image of 112x112, aligned to the
    ArcFace template. Items are asked for once and in order, one at a time, and kept as 8-bit images in the cache
    (38 kB each), so that a transform that draws anew cannot change them between two measurements.

    Identities are split by the seed: ``evaluation_share`` of them are measured, on verification pairs in ``folds`` that
    share nobody; the others are the attacker's. ``gallery`` and ``targets``: at most so many. ``revision`` is a hash of
    the content and of these settings. ``name`` and ``config`` open the same data set again, in any process:
    ``load_dataset(data.name, data.config.model_dump())``.

    Raises:
        UserError: no length or items, an image of another size, type or range (the index is named), identities that
            are missing or of another number, too few people, or a cache that cannot be written.
    """
    config = {"seed": seed, "folds": folds, "evaluation_share": evaluation_share, "gallery": gallery,
              "targets": targets}  # fmt: skip
    return SequenceDataset(SequenceConfig.model_validate({"content": _keep(images, identities)} | config))


def _folder() -> Path:
    return cache_dir() / "sequences"


def _keep(images: Any, identities: Sequence[Hashable] | None) -> str:
    """The digest of images and identities, once they are in the cache."""
    try:
        count = len(images)
    except TypeError as error:
        raise UserError(
            f"expected a sequence with a length, got {type(images).__name__}",
            "An iterable or streaming data set does not do: give a list, or a map-style one.",
        ) from error
    if identities is not None and len(identities) != count:
        raise UserError(f"expected one identity an image, got {len(identities)} for {count} images", "")
    if not count:
        raise UserError("expected images, got none", _SHAPES)
    total, who = hashlib.sha256(), list[str]()
    folder = _folder()
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(count, 3, SIZE, SIZE))
        for index, (image, identity) in enumerate(_items(images, identities, count)):
            kept[index] = _as_bytes(image, index)
            who.append(str(identity))
            total.update(kept[index].tobytes() + who[-1].encode() + b"\0")
        kept.flush()
        del kept  # Windows renames no mapped file
        key = total.hexdigest()
        write_atomic(folder / f"{key}.json", json.dumps(who).encode())
        temporary.replace(folder / f"{key}.npy")
    except OSError as error:
        raise UserError(
            f"cannot keep the images under {folder}: {error.strerror or error}",
            "Free some space, or choose another folder:  PPFR_BENCH_CACHE=DIR",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return key


def _stored(key: str) -> ArrayFaces:
    path = _folder() / f"{key}.npy"
    if not key or not path.is_file():
        raise UserError(
            f"no images {key[:12] or '(none named)'} on this machine",
            "Take them over in Python first:  ppfr_bench.datasets.from_sequence(images, identities)",
        )
    who = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    number = {identity: i for i, identity in enumerate(sorted(set(who)))}
    faces = np.load(path, mmap_mode="r", allow_pickle=False)
    return ArrayFaces(faces, [number[identity] for identity in who], [f"image/{i}" for i in range(len(who))])


def _items(images: Any, identities: Sequence[Hashable] | None, count: int) -> Iterator[tuple[Any, Any]]:
    for index in range(count):
        item = images[index]
        if identities is not None:
            yield (item["image"] if isinstance(item, Mapping) and "image" in item else item), _plain(identities[index])
        elif isinstance(item, Mapping):
            if not {"image", "label"} <= set(item):
                raise UserError(
                    f"item {index}: expected the columns image and label, got {', '.join(map(str, item))}",
                    "Rename them:  data.rename_columns({'img': 'image', 'identity': 'label'})",
                )
            yield item["image"], _plain(item["label"])
        elif isinstance(item, tuple | list) and len(item) == 2:
            yield item[0], _plain(item[1])
        else:
            raise UserError(
                f"item {index}: expected (image, identity), got {type(item).__name__}",
                "Give the identities beside the images:  from_sequence(images, identities)",
            )


def _plain(identity: Any) -> Any:
    """A number out of a tensor or a NumPy scalar, so that 3 is one person however it came."""
    return identity.item() if hasattr(identity, "item") else identity


def _as_bytes(image: Any, index: int) -> ByteArray:
    """uint8 (3, 112, 112)."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.shape == (SIZE, SIZE, 3):
        array = array.transpose(2, 0, 1)
    if array.shape != (3, SIZE, SIZE):
        raise UserError(f"image {index}: expected {SIZE}x{SIZE} pixels in RGB, got {array.shape}", _ALIGN)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"image {index}: expected uint8 or float, got {array.dtype}", _SHAPES)
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN too
        raise UserError(f"image {index}: expected floats in [0, 1], got {array.min():g} to {array.max():g}", _SHAPES)
    return to_bytes(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))
