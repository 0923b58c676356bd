"""Attacks on a few faces: parameters under which they take a moment, what they see, and what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import registry, testing
from ppfr_bench.api import Answers, Attack, AttackerView, ByteArray, Faces, Material, to_bytes, to_float
from ppfr_bench.datasets.faces import subset

TINY = {"size": 32, "width": 8, "batch": 4}
SMALL: dict[str, dict[str, Any]] = {
    "template": {"width": 8, "batch": 4, "steps": 2},
    "unet": TINY | {"steps": 3}, "attributes": TINY | {"steps": 3}, "ridge": {"size": 16},
    "soft_biometrics": TINY | {"steps": 3, "images": 2},
    "purifier": {"width": 8, "batch": 4, "steps": 3}, "outsider_eraser": {"batch": 4, "steps": 1},
} | {
    name: TINY | {"warm": 2, "steps": 2}
    for name in (
        "unet_perceptual", "pix2pix", "averaging", "adversarial_inversion", "gradient_inversion", "linkage_student",
    )
}  # fmt: skip
FACES = testing.example_faces()
MINE = subset(FACES, np.flatnonzero(FACES.identities < 2))
TARGETS = FACES.load(np.flatnonzero(FACES.identities >= 2))
GALLERY = TARGETS[::4]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def protected(name: str, images: ByteArray, seed: int = 0, **params: Any) -> ByteArray:
    return to_bytes(registry.build("defense", name, params).protect(to_float(images), seeded(seed)))


def all_of(faces: Faces) -> ByteArray:
    return faces.load(range(len(faces)))


def view_of(attack: Attack, defense: str, mine: Faces = MINE, targets: ByteArray = TARGETS) -> AttackerView:
    return testing.attacker_view(attack, registry.build("defense", defense, {}), mine, targets, GALLERY)


def answer(attack: Attack, view: AttackerView, seed: int = 0) -> npt.NDArray[Any]:
    return answers_of(attack, view, seed).main


def answers_of(attack: Attack, view: AttackerView, seed: int = 0) -> Answers:
    attack.fit(view, seeded(seed))
    return Answers.of(attack.run(view))


def mean_error(images: ByteArray, originals: ByteArray) -> float:
    return float(np.square(images.astype(np.float64) - originals).mean())


def blind_error(crowd: tuple[Faces, ByteArray]) -> float:
    """Of the mean face of the auxiliary images."""
    mine, targets = crowd
    return mean_error(np.broadcast_to(all_of(mine).mean(0), targets.shape), targets)


def declared(materials: tuple[Material, ...]) -> dict[str, Material]:
    """All materials by their key, with those that they start from."""
    found = {material.key: material for material in materials}
    for material in materials:
        found |= declared(material.starts_from)
    return found
