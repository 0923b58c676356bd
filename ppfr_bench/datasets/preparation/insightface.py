"""InsightFace's files of aligned faces: ``.bin`` (verification pairs) and ``.rec`` (training sets)."""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ppfr_bench.datasets._files import Rows
from ppfr_bench.datasets.preparation.formats import Advice, Format, Item, write_pairs
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.text import printable

FOLDS = 10
_REFUSED = "Do not trust this file."


class BinFormat(Format):
    """A pickled ``(images, issame)``: encoded images two by two, and whether each two are one person.

    lfw, cfp_ff, cfp_fp, agedb_30, calfw, cplfw. The file names nobody: people are the groups that genuine pairs and
    identical images tie together, so two groups may be one person. Folds are ten, in the order of the pairs.
    """

    aligned = True

    def __init__(self, path: Path) -> None:
        self.label = printable(path.name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}", "Give a file such as lfw.bin.") from error
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self._images, same = _read(content, path.name)
        first: dict[bytes, int] = {}
        self._of = [first.setdefault(hashlib.sha256(image).digest(), i) for i, image in enumerate(self._images)]
        group = _groups(self._of, same)
        for left in (2 * np.flatnonzero(same)).tolist():  # The protocol counts two copies of one photograph: CFP has 3.
            if self._of[left] == self._of[left + 1]:
                self._of[left + 1] = left + 1
        fold = np.concatenate([np.full(len(part), k) for k, part in enumerate(np.array_split(same, FOLDS))])
        number = {root: i for i, root in enumerate(sorted(set(group)))}
        targets = [f"images/person_{number[root]:05d}/{one:05d}" for root, one in zip(group, self._of, strict=True)]
        self.items = {f"image {one}": Item(targets[one]) for one in sorted(set(self._of))}
        self.left_out, self.rows = {}, Rows()
        for i, genuine in enumerate(same.tolist()):
            left, right = 2 * i, 2 * i + 1
            if self._of[left] == self._of[right]:
                self.left_out[f"pair {i}"] = "a photo paired with itself"
            elif not genuine and group[left] == group[right]:
                self.left_out[f"pair {i}"] = "two people, whom other pairs make one"
            else:
                self.rows.append((targets[left], targets[right], genuine, int(fold[i])))

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for name in wanted:
            yield name, self._images[int(name.removeprefix("image "))]

    def finish(self, folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, int]]:
        return {"pairs.csv": write_pairs(folder, "pairs.csv", self.rows, files)}

    def advice(self, folder: Path, pairs: Mapping[str, Mapping[str, int]]) -> Advice:
        return Advice("folder", folder / "images", {"pairs": "pairs.csv", "attacker_folds": 5})


class RecFormat(Format):
    """A training set in MXNet's recordio, ``train.rec`` beside ``train.idx``, read by NVIDIA's DALI on the CPU.

    Raises:
        Unavailable: DALI is not installed (Linux only, about 1 GB). MXNet itself is retired and loads with no current
            NumPy.
    """

    aligned = True

    def __init__(self, path: Path) -> None:
        self.label = printable(path.name)
        self._rec = path if path.suffix == ".rec" else path / "train.rec"
        index = self._rec.with_suffix(".idx")
        for file in (self._rec, index):
            if not file.is_file():
                raise UserError(f"no {file.name} in {file.parent}", "Give train.rec, with train.idx beside it.")
        try:
            self._dali: Any = import_module("nvidia.dali")
        except ImportError as error:
            raise Unavailable(
                "reading .rec needs NVIDIA's DALI, the one kept library that reads MXNet's recordio",
                "pip install 'ppfr-bench[rec]'  (Linux), or unpack it elsewhere and prepare the folder",
            ) from error
        self.left_out = {}
        self.fingerprint = [self._rec.stat().st_size, hashlib.sha256(index.read_bytes()).hexdigest()]
        self.items = {
            f"record {i}": Item(f"images/{person:07d}/{i:08d}") for i, (person, image) in enumerate(self._records())
            if image
        }  # fmt: skip
        if not self.items:
            raise UserError(f"{self._rec}: no image in it", "Is it a training set of InsightFace?")

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        left = set(wanted)
        for i, (_, image) in enumerate(self._records()):
            if f"record {i}" in left:
                yield f"record {i}", image

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Identity and encoded image of every record, in order; InsightFace's records about identities are empty."""
        pipeline = self._dali.Pipeline(batch_size=1, num_threads=1, device_id=None)
        with pipeline:
            images, labels = self._dali.fn.readers.mxnet(
                path=[str(self._rec)], index_path=[str(self._rec.with_suffix(".idx"))], name="records"
            )
            pipeline.set_outputs(images, labels)
        try:
            pipeline.build()
            for _ in range(pipeline.epoch_size("records")):
                image, label = pipeline.run()
                person = float(label.at(0).ravel()[0])
                if not person.is_integer():  # It is false for NaN and infinity too.
                    raise UserError(
                        f"{self._rec}: expected whole numbers as labels, got {person:g}", "Number the people."
                    )
                yield int(person), image.at(0).tobytes()
        except RuntimeError as error:
            raise UserError(f"{self._rec} cannot be read: {error}", "Is it a training set of InsightFace?") from error


def _read(content: bytes, name: str) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """Encoded images (2m) and whether each two are one person (m,).

    Raises:
        UserError: the pickle asks for anything else than arrays and bytes, or holds something else than pairs.
    """
    try:
        _check_memo(content)
        loaded = _Unpickler(content).load()
    except UserError:
        raise
    except Exception as error:  # Broken input makes pickle raise almost anything.
        raise UserError(f"{name} is no .bin of InsightFace: {error}", "Give a file such as lfw.bin.") from error
    loaded = loaded.value if isinstance(loaded, _Array) else loaded
    parts = [_listed(part) for part in loaded] if isinstance(loaded, tuple | list) and len(loaded) == 2 else []
    if not (parts and isinstance(parts[0], list | np.ndarray)):
        raise UserError(
            f"{name}: expected (images, issame), got {type(loaded).__name__}", "Give a file such as lfw.bin."
        )
    if len(parts[0]) > len(content):
        raise UserError(f"{name}: {len(parts[0])} images in {len(content)} bytes", _REFUSED)
    once: dict[int, bytes] = {}  # One image may stand in many places, and is kept once.
    rows = list(parts[0])
    images = [
        once[id(row)] if id(row) in once else once.setdefault(id(row), _encoded(row, name, i))
        for i, row in enumerate(rows)
    ]
    flags = np.asarray(parts[1]) if _is_flat(parts[1]) else np.empty((0, 0))
    if flags.ndim != 1 or flags.dtype.kind not in "biu" or len(images) != 2 * len(flags) or len(flags) < FOLDS:
        raise UserError(
            f"{name}: expected two images a pair, got {len(images)} for {flags.shape} of {flags.dtype}",
            "Give a file such as lfw.bin.",
        )
    return images, flags.astype(np.bool_)


def _encoded(image: Any, name: str, index: int) -> bytes:
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
        return image.tobytes()
    raise UserError(f"{name}, image {index}: expected an encoded image, got {type(image).__name__}", _REFUSED)


def _groups(of: list[int], same: npt.NDArray[np.bool_]) -> list[int]:
    """For every image the first one of its person; ``of``: the first image of the same content."""
    every, left = np.arange(len(of)), 2 * np.flatnonzero(same)
    links = np.concatenate([every, left]), np.concatenate([np.asarray(of), left + 1])
    sparse: Any = coo_array
    graph = sparse((np.ones(len(links[0])), links), shape=(len(of), len(of)))
    _, first, person = np.unique(connected_components(graph, directed=False)[1], return_index=True, return_inverse=True)
    groups: list[int] = first[person].tolist()
    return groups


def _latin1(text: Any, encoding: str) -> bytes:
    """How Python 3 wrote bytes for Python 2's sake."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UserError(f"a pickle asks to encode as {encoding!r}", _REFUSED)
    return text.encode("latin1")


def _few_bytes(*given: Any) -> bytes:
    """What ``bytes`` makes of bytes: of a number it would make as many, and fill the memory."""
    if len(given) == 1 and isinstance(given[0], bytes | bytearray):
        return bytes(given[0])
    if len(given) == 2 and isinstance(given[0], str):
        return _latin1(*given)
    if not given:
        return b""
    raise UserError(f"a pickle asks for bytes of {type(given[0]).__name__}", _REFUSED)


class _Type:
    """Stands for ``numpy.dtype``: a name and an order of bytes. Other flags make numpy follow pointers of a file."""

    def __init__(self, name: Any, *_: object) -> None:
        self._name = name.decode("latin1") if isinstance(name, bytes) else str(name)
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else str(state[1])
        self._order = order if order in "<>" else "="

    def plain(self) -> np.dtype[Any]:
        """The type.

        Raises:
            UserError: it is none of numbers, and so none of encoded images or of pairs.
        """
        found = np.dtype(self._name)
        if found.kind not in "biuf":
            raise UserError(f"a pickle asks for arrays of {found}", _REFUSED)
        order: Any = self._order
        return found.newbyteorder(order)


class _Array:
    """Stands for ``numpy.ndarray``: its content is read with a type of our own."""

    def __init__(self, *_: object) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, columns_first, content = state
        if isinstance(content, list):  # An array of objects, such as encoded images.
            self.value = content
        else:
            self.value = np.frombuffer(content, kind.plain()).reshape(shape, order="F" if columns_first else "C")


def _from_buffer(content: Any, kind: _Type, shape: Any, order: str, *_: object) -> Any:
    return np.frombuffer(content, kind.plain()).reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: _Type, content: Any) -> Any:
    return np.frombuffer(content, kind.plain())[0]


_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy._core.multiarray", "_reconstruct"): _Array, ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer, ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Type,
}  # fmt: skip


def _check_memo(content: bytes) -> None:
    """Raises:
    UserError: a pickle keeps something under a number beyond its own length: so many places would be made for it.
    """
    for code, number, _ in pickletools.genops(content):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(number or 0) <= len(content):
            raise UserError(f"a pickle of {len(content)} bytes asks for {number} places", _REFUSED)


def _listed(part: Any) -> Any:
    """A list of the file with arrays in the places of their stand-ins.

    Lists in it are left alone: one may stand in many places, and no image lies so deep.
    """
    part = part.value if isinstance(part, _Array) else part
    if isinstance(part, list | tuple):
        return [one.value if isinstance(one, _Array) else one for one in part]
    return part


def _is_flat(flags: Any) -> bool:
    return isinstance(flags, np.ndarray) or (
        isinstance(flags, list) and all(isinstance(one, bool | int | np.generic) for one in flags)
    )


class _Unpickler(pickle.Unpickler):
    """Admits bytes in either spelling, and arrays of numbers: no class of the file's choosing is ever looked up.

    All bytes that it makes of texts together are no more than the file has: one text may be asked for many times.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._left = len(content)

    def _counted(self, make: Callable[..., bytes], *given: Any) -> bytes:
        made = make(*given)
        self._left -= len(made)
        if self._left < 0:
            raise UserError("a pickle asks for more bytes than it has", _REFUSED)
        return made

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return partial(self._counted, _latin1)
        if (module, name) in (("builtins", "bytes"), ("__builtin__", "bytes"), ("__builtin__", "str")):
            return partial(self._counted, _few_bytes)
        if (module, name) in (("builtins", "bytearray"), ("__builtin__", "bytearray")):
            return partial(self._counted, _few_bytes)
        if (stand_in := _NUMPY.get((module.replace("numpy.core", "numpy._core"), name))) is not None:
            return stand_in
        raise UserError(f"a pickle asks for {module}.{name}; only bytes and arrays are admitted", _REFUSED)
