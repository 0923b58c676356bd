"""Protect a folder of images with one defense, and what the other ways to protect share with it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ppfr_bench.api import Defense
from ppfr_bench.console import err
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.faces import FileFaces
from ppfr_bench.errors import UserError
from ppfr_bench.files import folded, list_images, write_atomic
from ppfr_bench.images import UnreadableImage, encode_png, read
from ppfr_bench.stages.release import release
from ppfr_bench.text import printable

BATCH = 64


@dataclass(frozen=True)
class FolderReport:
    """``images`` protected, of which ``replaced`` took the place of a file that was there.

    ``left_out``: every other file of the folder, and why it was not taken.
    """

    images: int
    replaced: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def protect_folder(defense: Defense, source: Path, target: Path, seed: int | None = None) -> FolderReport:
    """Protect every image below ``source`` (aligned, 112x112) into ``target`` as PNG, without any metadata.

    Without a seed the randomness is fresh, as in use; with one, the same call gives the same bytes. A defense that
    learns does so first, under the same randomness and from the synthetic defender's people (made once, in minutes):
    never from the faces it is to protect. What an earlier call has written to ``target`` is replaced.

    Raises:
        UserError: no folder, no image in it, an image that ``ppfr_bench.images`` refuses or of another size (named),
            two images whose protected files would have one name, a ``target`` that is ``source`` or lies in it or holds
            the clear images, or a release that ``release`` refuses. What was written before is said; nothing is written
            of the batch that failed.
        Unavailable: a defense that learns, and no data set to learn from.
    """
    check_releases_images(defense)
    if not source.exists():
        raise UserError(f"no such folder: {printable(source)}", "Check the path: a folder of images is expected.")
    if not source.is_dir():
        raise UserError(
            f"expected a folder of images, got the file {printable(source)}", "Give the folder, not a file in it."
        )
    listing = list_images(source)
    names = list(listing.files)
    if not names:
        raise UserError(
            f"no image in {printable(source)}",
            f"Expected JPEG, PNG or other images; the folder has {len(listing.left_out)} other files.",
        )
    targets = _targets(source, target, names)
    replaced = _check_replaced(list(listing.files.values()), targets)
    faces = FileFaces(list(listing.files.values()), [0] * len(names), [*map(printable, names)])
    generator = start(seed)
    learn(defense, generator)
    done = 0
    try:
        for batch in faces.batches(BATCH):
            released = release(defense, batch, generator, faces.names[done : done + len(batch)])
            for image in released:
                write_atomic(targets[done], encode_png(image.transpose(1, 2, 0)))
                done += 1
    except UserError as error:
        raise UserError(f"{error.message}. {_written(done, len(names), target)}", error.hint) from error
    except KeyboardInterrupt:
        err.print(_written(done, len(names), target), highlight=False, markup=False)
        raise
    return FolderReport(done, replaced, listing.left_out)


def _written(done: int, total: int, target: Path) -> str:
    return (
        f"{done} of {total} images are written to {printable(target)}, the rest is not"
        if done
        else (f"Nothing is written to {printable(target)}")
    )


def _targets(source: Path, target: Path, names: Sequence[str]) -> list[Path]:
    """Where each image goes.

    Raises:
        UserError: to a place where something would be lost.
    """
    inside = source.resolve()
    if target.resolve().is_relative_to(inside):
        where = "is" if target.resolve() == inside else "lies inside"
        raise UserError(
            f"OUT {where} IN ({printable(source)}): the clear images would be overwritten, or mixed with the protected "
            "ones",
            "Choose a folder outside it.",
        )
    if target.exists() and not target.is_dir():
        raise UserError(f"{printable(target)} is a file, expected a folder", "Choose another name for OUT.")
    targets = [target / PurePosixPath(name).with_suffix(".png") for name in names]
    first: dict[str, str] = {}
    for name, path in zip(names, targets, strict=True):
        if (other := first.setdefault(folded(str(path)), name)) != name:
            raise UserError(
                f"two images would both become {printable(path)}: {printable(other)} and {printable(name)}",
                "Rename one of them.",
            )
    for parent in {path.parent for path in targets}:
        if parent.resolve().is_relative_to(inside):
            raise UserError(
                f"{printable(parent)}, where a protected image would go, lies in IN", "Choose another folder for OUT."
            )
    return targets


def _check_replaced(sources: Sequence[Path], targets: Sequence[Path]) -> int:
    """How many files would be replaced.

    Raises:
        UserError: one of them shows what the clear image shows: it is a copy of it, perhaps the last.
    """
    there = [(clear, path) for clear, path in zip(sources, targets, strict=True) if path.exists()]
    for clear, path in there:
        try:
            same = np.array_equal(read(clear).pixels, read(path).pixels)
        except UnreadableImage:
            same = False
        if same:
            raise UserError(f"{printable(path)} holds the clear image", "Choose a new folder for OUT.")
    return len(there)


def check_releases_images(defense: Defense) -> None:
    """A UserError for a defense that releases something else than images."""
    if not type(defense).releases_image():
        raise UserError(f"{defense.card.title} releases a representation, no images", "Choose another defense.")


def start(seed: int | None) -> torch.Generator:
    """Fresh randomness, or the seed's.

    Raises:
        UserError: a seed that is none.
    """
    if seed is not None and not 0 <= seed < 1 << 63:
        raise UserError(f"expected a seed from 0 to {(1 << 63) - 1}, got {seed:.3g}", "For example:  seed=1")
    return torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)


def learn(defense: Defense, generator: torch.Generator) -> None:
    """Fit a defense that learns on the synthetic defender's people; others have nothing to learn."""
    if type(defense).learns():
        defense.fit(load_dataset("synthetic", {}).defender, generator)


def for_one_person(defense: Defense, generator: torch.Generator) -> Defense:
    """The defense under a key of its own if its key is a user's (``per_user_key``), else the defense as it is.

    The key is the parameter ``secret``, drawn from the generator; a defense that learns learns again under it.

    Raises:
        UserError: a key of a user's, and nowhere to put it.
    """
    if defense.randomness != "per_user_key":
        return defense
    values = defense.config.model_dump()
    if isinstance(values.get("secret"), int):
        values["secret"] = int(torch.randint(2**31 - 1, (1,), generator=generator))
    elif type(defense).fit is Defense.fit:
        raise UserError(f"{defense.card.title}: a key a user, but no parameter named secret", "See the api of Defense.")
    other = type(defense)(type(defense).Config.model_validate(values))
    learn(other, generator)
    return other
