"""What an attacker is given where no suite runs: tiny recognizers, and a view of a few faces through one defense."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from torch.nn import functional

from ppfr_bench.api import (
    Answers,
    Attack,
    AttackerView,
    ByteArray,
    Defense,
    Faces,
    FloatArray,
    materialised,
    to_bytes,
    to_float,
)
from ppfr_bench.testing.recognizer import TinyRecognizer


class TinySurrogate(torch.nn.Module):
    """Unit embeddings with gradients: the image at eight pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, h, w) -> (n, 192)."""
        return functional.normalize(functional.adaptive_avg_pool2d(images - 0.5, 8).flatten(1), dim=1)


class TinyEmbedder:
    """The tiny recognizer in an attacker's hands."""

    name = "tiny"

    def __init__(self) -> None:
        self.recognizer = TinyRecognizer()

    def embed(self, images: ByteArray) -> FloatArray:
        """uint8 (n, 3, h, w) -> float64 (n, d)."""
        return self.recognizer.embed(to_float(images)).cpu().double().numpy()

    def similarity_matrix(self, probes: FloatArray, gallery: FloatArray) -> FloatArray:
        """(p, d) and (g, d) -> (p, g)."""
        return self.recognizer.similarity_matrix(probes, gallery)


class TinyOracle:
    """The live defense, drawing anew at every call."""

    def __init__(self, defense: Defense) -> None:
        self.defense, self.queries = defense, 0

    def protect(self, images: ByteArray) -> ByteArray:
        """uint8 (n, 3, h, w) -> the same."""
        self.queries += len(images)
        return _protected(self.defense, images, seed=100 + self.queries)


def attacker_view(
    attack: Attack, defense: Defense, mine: Faces, targets: ByteArray, gallery: ByteArray, shots: int = 2
) -> AttackerView:
    """What the attack's card entitles it to, and no more, with the materials it declares; the same at every call.

    Args:
        attack: whose view it is.
        defense: fitted, if it learns.
        mine: the attacker's own faces.
        targets: uint8 (n, 3, h, w), the clear targets, which are protected ``shots`` times.
        gallery: uint8 (g, 3, h, w), other clear photos of the targets' people.
        shots: releases of each target in the view, whatever the attack asks for.
    """
    card = attack.card
    aware = card.knowledge != "oblivious"
    view = AttackerView(
        knowledge=card.knowledge,
        auxiliary=mine,
        targets=np.stack([_protected(defense, targets, seed) for seed in range(1, shots + 1)]),
        auxiliary_protected=_protected(defense, mine.load(range(len(mine))), seed=3) if aware else None,
        gallery=gallery if card.needs_gallery else None,
        recognizer=TinyEmbedder() if card.needs_recognizer else None,
        reconstructions={label: targets for label in attack.sources},
        source_answers={label: Answers(targets) for label in attack.sources},
        oracle=TinyOracle(defense) if aware else None,
        defense=_as_known(defense, attack) if card.knowledge == "informed" else None,
        protected_gallery=_protected(defense, gallery, seed=4) if card.needs_protected_gallery else None,
        surrogate=TinySurrogate() if card.needs_surrogate else None,
        render=lambda released: _render(defense, released),
        releases_image=defense.releases_image(),
    )
    return materialised(attack, view)


def _as_known(defense: Defense, attack: Attack) -> Defense:
    """The defense under another key, if it has one that the attack does not hold."""
    secret = getattr(defense.config, "secret", None)
    if attack.key_access != "same" or not isinstance(secret, int):
        return defense
    found = copy(defense)
    found.config = defense.config.model_copy(update={"secret": secret + 1})
    return found


def _render(defense: Defense, released: ByteArray) -> ByteArray:
    with torch.no_grad():
        return to_bytes(defense.render(to_float(released)))


def _protected(defense: Defense, images: ByteArray, seed: int) -> ByteArray:
    with torch.no_grad():
        return to_bytes(defense.protect(to_float(images), torch.Generator().manual_seed(seed)))
