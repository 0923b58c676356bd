"""Protect a folder of images with one defense."""

from __future__ import annotations

import secrets
from pathlib import Path

import torch
from PIL import Image

from ppfr_bench.api import ByteArray, Defense, to_bytes, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.faces import FileFaces
from ppfr_bench.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
BATCH = 64


def protect_folder(defense: Defense, source: Path, target: Path, seed: int | None = None) -> int:
    """Protect every image below ``source`` (aligned, 112x112) into ``target`` as PNG, without any metadata.

    Without a seed the randomness is fresh, as in use; with one, the same call gives the same bytes. A defense that
    learns does so first, under the same randomness and from the synthetic defender's people (made once, in minutes):
    never from the faces it is to protect.

    Returns:
        The number of images.

    Raises:
        UserError: no folder, no image in it, an image of another size or none at all (named), or two images whose
            protected files would have one name. Nothing is written for an image that the defense fails on.
        Unavailable: a defense that learns, and no data set to learn from.
    """
    check_releases_images(defense)
    if not source.is_dir():
        raise UserError(f"expected a folder of images, got {source}", "Give the folder, not a file in it.")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"no image in {source}", f"Looked for {', '.join(sorted(SUFFIXES))}, in subfolders too.")
    targets = [target / path.relative_to(source).with_suffix(".png") for path in paths]
    if len(set(targets)) < len(targets):
        twice = next(t for t in targets if targets.count(t) > 1)
        raise UserError(f"two images would both become {twice}", "Rename one of them.")
    faces = FileFaces(paths, [0] * len(paths), [str(path.relative_to(source)) for path in paths])
    generator = start(seed)
    learn(defense, generator)
    done = 0
    for batch in faces.batches(BATCH):
        for image in release(defense, batch, generator):
            path = targets[done]
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            Image.fromarray(image.transpose(1, 2, 0)).save(temporary, "PNG")
            temporary.replace(path)
            done += 1
    return done


def check_releases_images(defense: Defense) -> None:
    """A UserError for a defense that releases something else than images."""
    if defense.card.output != "image":
        raise UserError(f"{defense.card.title} releases a {defense.card.output}, no images", "Choose another defense.")


def start(seed: int | None) -> torch.Generator:
    """Fresh randomness, or the seed's."""
    return torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)


def learn(defense: Defense, generator: torch.Generator) -> None:
    """Fit a defense that learns on the synthetic defender's people; others have nothing to learn."""
    if type(defense).fit is not Defense.fit:
        defense.fit(load_dataset("synthetic", {}).defender, generator)


def release(defense: Defense, images: ByteArray, generator: torch.Generator) -> ByteArray:
    """uint8 (n, 3, 112, 112) -> what the defense releases of them, of the same shape.

    Raises:
        UserError: the defense returned another shape.
    """
    with torch.no_grad():
        released = to_bytes(defense.protect(to_float(images), generator))
    if released.shape != images.shape:
        raise UserError(f"{type(defense).card.title}: expected {images.shape}, got {released.shape}", "")
    return released


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
