"""Protect a folder of images with one defense."""

from __future__ import annotations

import secrets
from pathlib import Path

import torch
from PIL import Image

from ppfr_bench.api import Defense, to_bytes, to_float
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
    if defense.card.output != "image":
        raise UserError(f"{defense.card.title} releases a {defense.card.output}, no images", "Choose another defense.")
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
    generator = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)
    if type(defense).fit is not Defense.fit:
        defense.fit(load_dataset("synthetic", {}).defender, generator)
    done = 0
    for batch in faces.batches(BATCH):
        with torch.no_grad():
            released = to_bytes(defense.protect(to_float(batch), generator))
        if released.shape != batch.shape:
            raise UserError(f"{type(defense).card.title}: expected {batch.shape}, got {released.shape}", "")
        for image in released:
            path = targets[done]
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            Image.fromarray(image.transpose(1, 2, 0)).save(temporary, "PNG")
            temporary.replace(path)
            done += 1
    return done
