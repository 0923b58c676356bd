"""Data in memory or behind another library's data set: taken over once, then a data set like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
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
from ppfr_bench.files import folded, write_atomic
from ppfr_bench.images import UnreadableImage, from_pillow

_ALIGN = "Align it first:  ppfr-bench data prepare folder SRC DST"
_LABELS = "Give strings or whole numbers, one an image."
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
    identities: Iterable[Hashable] | None = None,
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
    uint8 or float in [0, 1], (112, 112, 3) or (3, 112, 112), NumPy or torch, or a PIL image of 112x112 (of any mode,
    as ``ppfr_bench.images`` reads them), aligned to the ArcFace template. Identities are strings, whole numbers or
    anything that can be hashed, one kind of it; image and identity belong together by their position, whatever index
    a table gives them. Items are asked for once and in order, one at a time, and kept as 8-bit images in the cache
    (38 kB each), so that a transform that draws anew cannot change them between two measurements.

    Identities are split by the seed: ``evaluation_share`` of them are measured, on verification pairs in ``folds`` that
    share nobody; the others are the attacker's. ``gallery`` and ``targets``: at most so many. ``revision`` is a hash of
    the content and of these settings. ``name`` and ``config`` open the same data set again, in any process:
    ``load_dataset(data.name, data.config.model_dump())``.

    Raises:
        UserError: no length or items, an image of another size, type or range (the index is named), identities that
            are missing, of several kinds, of another number, or written alike though not equal, too few people, or a
            cache that cannot be written.
    """
    config = {"seed": seed, "folds": folds, "evaluation_share": evaluation_share, "gallery": gallery,
              "targets": targets}  # fmt: skip
    return SequenceDataset(SequenceConfig.model_validate({"content": _keep(images, identities)} | config))


def _folder() -> Path:
    return cache_dir() / "sequences"


def _keep(images: Any, identities: Iterable[Hashable] | None) -> str:
    """The digest of images and identities, once they are in the cache."""
    if isinstance(images, Mapping | Set | str | bytes):
        raise UserError(
            f"expected a sequence of images, got {type(images).__name__}",
            "Give a list; of a dictionary of splits, the split that you mean:  data['train']",
        )
    try:
        count = len(images)
    except TypeError as error:
        raise UserError(
            f"expected a sequence with a length, got {type(images).__name__}",
            "An iterable or streaming data set does not do: give a list, or a map-style one.",
        ) from error
    given = None if identities is None else _by_position(identities)
    if given is not None and len(given) != count:
        raise UserError(
            f"expected one identity an image, got {len(given)} for {count} images",
            "Give a list with one identity an image, in the order of the images.",
        )
    if not count:
        raise UserError("expected images, got none", _SHAPES)
    people = _People()
    total, who = hashlib.sha256(), list[str]()
    folder = _folder()
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(count, 3, SIZE, SIZE))
        for index, (image, identity) in enumerate(_items(images, given, count)):
            kept[index] = _as_bytes(image, index)
            who.append(people.name(identity, index))
            total.update(kept[index].tobytes() + who[-1].encode() + b"\0")
        kept.flush()
        del kept  # Windows renames no mapped file.
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


def _by_position(values: Iterable[Any]) -> list[Any]:
    """The values in their order, whatever index a table gives them.

    Raises:
        UserError: a kind of collection that has no order, or whose order is another's.
    """
    if isinstance(values, Mapping | Set | str | bytes):
        raise UserError(
            f"expected a sequence of identities, got {type(values).__name__}",
            "Give a list with one identity an image, in the order of the images.",
        )
    if len(shape := getattr(values, "shape", (0,))) != 1:
        raise UserError(f"expected one identity an image, got an array of shape {tuple(shape)}", "Give one column.")
    try:
        return list(values)
    except TypeError as error:
        raise UserError(f"expected a sequence of identities, got {type(values).__name__}", "Give a list.") from error


def _items(images: Any, identities: Sequence[Any] | None, count: int) -> Iterator[tuple[Any, Any]]:
    """Image and identity, by position: a pandas table or column would answer ``images[0]`` by its index."""
    rows = getattr(images, "iloc", images)
    columns = [str(column) for column in getattr(images, "columns", ())] if rows is not images else []
    for index in range(count):
        item = rows[index]
        if columns:
            item = dict(zip(columns, item, strict=True))
        if identities is not None:
            yield (item["image"] if isinstance(item, Mapping) and "image" in item else item), identities[index]
        elif isinstance(item, Mapping):
            if not {"image", "label"} <= set(item):
                raise UserError(
                    f"item {index}: expected the columns image and label, got {', '.join(map(str, item))}",
                    "Rename them:  data.rename_columns({'img': 'image', 'identity': 'label'})",
                )
            yield item["image"], item["label"]
        elif isinstance(item, tuple | list) and len(item) == 2:
            yield item[0], item[1]
        else:
            raise UserError(
                f"item {index}: expected (image, identity), got {type(item).__name__}",
                "Give the identities beside the images:  from_sequence(images, identities)",
            )


class _People:
    """Every identity by a name of its own: equal ones by one name, others by others, or an error."""

    def __init__(self) -> None:
        self._names: dict[Hashable, tuple[str, Any, int]] = {}
        self._spellings: dict[str, tuple[Any, int]] = {}

    def name(self, given: Any, index: int) -> str:
        """The text that stands for an identity.

        Raises:
            UserError: it is missing, cannot be told from others, or looks like another one that it does not equal.
        """
        identity = _plain(given, index)
        plain = type(identity)
        try:
            if (known := self._names.get(identity)) is not None and type(known[1]) is plain:
                return known[0]
        except TypeError as error:
            raise UserError(f"item {index}: expected an identity, got {plain.__name__}", _LABELS) from error
        if all(getattr(plain, word) is getattr(object, word) for word in ("__str__", "__repr__")):
            raise UserError(f"item {index}: an object of {plain.__name__} does not say who it is", _LABELS)
        name = str(identity)
        other, first = self._spellings.setdefault(folded(name.strip()), (identity, index))
        if known is not None:
            _, other, first = known
        if first != index:
            raise UserError(
                f"items {first} and {index}: the identities {other!r} and {identity!r} are not the same, and look "
                "alike",
                "Write one person's name one way everywhere, in one type; names that really differ in capitals, "
                "accents or spaces only are told apart by numbers:  pandas.factorize(labels)[0]",
            )
        self._names[identity] = name, identity, index
        return name


def _plain(identity: Any, index: int) -> Any:
    """A number out of a tensor, a NumPy or an Arrow scalar, so that 3 is one person however it came.

    Raises:
        UserError: no identity: None, NaN, an empty text, or several values.
    """
    for method in ("item", "as_py"):
        if hasattr(identity, method):
            try:
                identity = getattr(identity, method)()
            except (ValueError, RuntimeError, TypeError) as error:
                raise UserError(f"item {index}: expected one identity, got several values", "Give one.") from error
            break
    missing = identity is None or (isinstance(identity, str | bytes) and not identity.strip())
    try:
        missing = missing or bool(identity != identity)  # NaN and NaT equal nothing.
    except TypeError:  # pandas' NA is neither equal nor not.
        missing = True
    except ValueError as error:
        raise UserError(f"item {index}: expected one identity, got several values", "Give one.") from error
    if isinstance(identity, float) and identity.is_integer():
        identity = int(identity)  # A column with a gap somewhere has been of floats.
    if missing:
        raise UserError(f"item {index}: no identity ({identity!r})", "Leave the image out, or say who it is.")
    return identity


def _as_bytes(image: Any, index: int) -> ByteArray:
    """uint8 (3, 112, 112)."""
    if isinstance(image, Image.Image):
        try:
            image = from_pillow(image)
        except UnreadableImage as error:
            raise UserError(f"image {index}: {error.message}", error.hint) from error
    if np.ma.is_masked(image):
        raise UserError(f"image {index}: some pixels are masked, and what hides there is still in the array",
                        "Fill them first:  array.filled(0)")  # fmt: skip
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.shape == (SIZE, SIZE, 3):
        array = array.transpose(2, 0, 1)
    if array.shape != (3, SIZE, SIZE):
        raise UserError(f"image {index}: expected {SIZE}x{SIZE} pixels in RGB, got {array.shape}", _ALIGN)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"image {index}: expected uint8 or float, got {array.dtype}", _SHAPES)
    if not (array.min() >= 0 and array.max() <= 1):  # The comparison is false for NaN too.
        raise UserError(f"image {index}: expected floats in [0, 1], got {array.min():g} to {array.max():g}", _SHAPES)
    return to_bytes(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)))


DATASET = SequenceDataset
