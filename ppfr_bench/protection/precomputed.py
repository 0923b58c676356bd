"""Images protected elsewhere: hand out what a suite protects, take back what another tool made of it.

A folder holds ``clear/``, which ``export`` writes, and ``protected/``, which the tool fills with images of the same
names. Names are content digests: nothing in them tells who is on a picture, and what is taken back finds its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from PIL import Image
from pydantic import Field

from ppfr_bench import integrity
from ppfr_bench.api import SIZE, ByteArray, FaceDataset
from ppfr_bench.assets import cache_dir
from ppfr_bench.cards import Config
from ppfr_bench.datasets.faces import read_image
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.files import HIDDEN, Listing, list_images, write_atomic
from ppfr_bench.places import folder_at
from ppfr_bench.records.hashing import digest
from ppfr_bench.text import parse_json, printable, read_text

_BATCH = 64


def name_of(image: ByteArray) -> str:
    """24 hex digits of the pixels, uint8 (3, 112, 112)."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:24]


def export(dataset: FaceDataset, folder: Path, report: Callable[[int, int], None] | None = None) -> int:
    """Write every image that attackers and recognizers are shown protected to ``folder/clear``, as PNG.

    Images that are there already are left; an interrupted export goes on where it stopped.

    Returns:
        The number of different images.

    Raises:
        UserError: the folder holds the export of other data, which would be mixed with these, or lies in the data set.
    """
    root: Path | None = getattr(dataset, "root", None)
    if root is not None and folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} lies in the data set, {root}", "Choose a folder outside it.")
    if (folder / "manifest.json").is_file() and (other := _manifest(folder).get("revision")) != dataset.revision:
        raise UserError(f"{folder} holds the export of other data ({other})", "Choose a new folder.")
    clear = folder_at(folder, "the export", "Choose a new folder.") / "clear"
    try:
        clear.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {printable(clear)}: {error.strerror or error}", "Choose another.") from error
    names: set[str] = set()
    splits = (dataset.evaluation, dataset.attacker)
    total, seen = sum(map(len, splits)), 0
    for faces in splits:
        for batch in faces.batches(_BATCH):
            for image in batch:
                name = name_of(image)
                if name not in names and not (clear / f"{name}.png").is_file():
                    temporary = clear / f".{name}.tmp"
                    Image.fromarray(image.transpose(1, 2, 0)).save(temporary, "PNG")
                    temporary.replace(clear / f"{name}.png")
                names.add(name)
            seen += len(batch)
            if report:
                report(seen, total)
    manifest = {"dataset": dataset.name, "revision": dataset.revision, "images": sorted(names)}
    write_atomic(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return len(names)


def take_back(folder: Path) -> str:
    """Keep the protected images of a folder in the cache; their digest is what the defense ``precomputed`` asks for.

    Raises:
        UserError: no export here, an image missing, one too many, or one that is no RGB image of 112x112.
    """
    manifest = _manifest(folder)
    names = manifest["images"]
    protected = folder / "protected"
    there: dict[str, Path] = {}
    listing = list_images(protected) if protected.is_dir() else Listing()
    for name, path in [
        *listing.files.items(),
        *((n, protected / n) for n, w in listing.left_out.items() if w != HIDDEN),
    ]:
        if there.setdefault(stem := PurePosixPath(name).with_suffix("").as_posix(), path) != path:
            raise UserError(f"{protected} holds two images of the name {stem}", "Keep the protected one.")
    missing, strange = sorted(set(names) - set(there)), sorted(set(there) - set(names))
    for what, which in (("without a protected version", missing), ("that nobody asked for", strange)):
        if which:
            raise UserError(
                f"{protected}: {len(which)} of {len(names)} images {what}, among them {printable(which[0])}",
                "One image for each in clear/, of the same name; no face is to be left out.",
            )
    images = np.empty((len(names), 3, SIZE, SIZE), np.uint8)
    content = hashlib.sha256()
    for i, name in enumerate(sorted(names)):
        images[i] = read_image(there[name], f"protected/{there[name].name}")
        content.update(name.encode() + images[i].tobytes())
    key = digest([manifest.get("revision"), content.hexdigest()])
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if _names_in(path) is None:
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, images)
            integrity.sync(temporary)
            notes = {"names": sorted(names), "sha256": integrity.file_sha256(temporary)}
            write_atomic(path.with_suffix(".json"), json.dumps(notes).encode())
            temporary.replace(path)
            integrity.sync(path.parent)
    return key


class _Export(Config):
    """What ``manifest.json`` of an export says."""

    dataset: str
    revision: str
    images: list[Annotated[str, Field(pattern="^[0-9a-f]{24}$")]]


def _manifest(folder: Path) -> dict[str, Any]:
    """What ``export`` has written beside the images; it is written last, so the images are whole."""
    try:
        path = folder / "manifest.json"
        found = _Export.model_validate(parse_json(read_text(path), printable(path)))
        if len(set(found.images)) != len(found.images):
            raise ValueError("a name stands twice")
        return found.model_dump()
    except (UserError, ValueError) as error:
        raise UserError(f"{folder} holds no export", f"First:  ppfr-bench data export quick {folder}") from error


class Store:
    """The protected images behind a digest, memory-mapped."""

    def __init__(self, key: str) -> None:
        path = _path(key)
        names = _names_in(path)
        if names is None:
            why = f": {printable(path)} is damaged" if path.is_file() else " on this machine"
            raise UserError(
                f"no precomputed images {key[:12] or '(none named)'}{why}",
                "Give their folder:  ppfr-bench run quick --precomputed FOLDER",
            )
        self._images = np.load(path, mmap_mode="r", allow_pickle=False)
        self._rows = {name: i for i, name in enumerate(names)}

    def __getitem__(self, images: ByteArray) -> ByteArray:
        """uint8 (n, 3, 112, 112), clear -> protected.

        Raises:
            Unavailable: an image that was not exported.
        """
        rows = [self._rows.get(name_of(image)) for image in images]
        if None in rows:
            raise Unavailable(
                "precomputed images: this attack protects images of its own choosing, and nobody is there to do it",
                "Submit the method itself to have every attack run.",
            )
        return np.asarray(self._images[np.asarray(rows, dtype=np.int64)])


def _names_in(path: Path) -> list[str] | None:
    """The names of the images in a file of the cache, in their order; None where it is not as it was written."""
    try:
        notes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        names: list[str] = notes["names"]
        return names if integrity.file_sha256_once(path) == notes["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(key: str) -> Path:
    return cache_dir() / "precomputed" / f"{key}.npy"
