"""Erasure of a cloak by its method: with the right key, with a wrong one, or with none."""

from __future__ import annotations

from typing import Literal

import torch

from ppfr_bench.api import (
    Answers,
    Attack,
    AttackCard,
    AttackerView,
    ByteArray,
    Config,
    Defense,
    KeyAccess,
    to_bytes,
    to_float,
)
from ppfr_bench.cloak.api import Cloak

from .linkage import seen

_BATCH = 32
_OFF = 7919  # Between the right key and a wrong one.


class ErasureConfig(Config):
    """``key``: whose key is used: the ``right`` one, a ``wrong`` one, or ``none``."""

    key: Literal["right", "wrong", "none"] = "right"


class Erasure(Attack):
    """Whoever holds the method's eraser, and with it the right key, a wrong one or none; recognised from a gallery.

    With the right key it is no attack but what the method promises. A cloak that cannot be erased is compared as it is
    released.
    """

    version = 1
    card = AttackCard(
        title="Erasure of a cloak",
        plain="Removes a cloak with the method's own eraser and the right key, a wrong key or no key, and then "
        "tries to recognise the face.",
        family="erasure",
        reference="ErasableMask, arXiv 2412.17038, 2024 (erasure success rate)",
        licence="MIT",
        measures="erasure",
        knowledge="informed",
        needs_gallery=True,
        needs_recognizer=True,
        tracks=("cloak",),
    )
    Config = ErasureConfig

    @property
    def key_access(self) -> KeyAccess:
        """It holds the key, and is told by its parameter which one to use."""
        return "held"

    def run(self, view: AttackerView) -> Answers:
        """Similarities (n_targets, n_gallery)."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        self.log["shots"] = 1
        probes = self._erased(view.defense, view.targets[0])
        recognizer = view.recognizer
        return Answers(recognizer.similarity_matrix(seen([probes], recognizer), seen([view.gallery], recognizer)))

    def _erased(self, defense: Defense | None, released: ByteArray) -> ByteArray:
        """uint8 (n, 3, h, w) twice."""
        if not isinstance(defense, Cloak) or not defense.erasable:
            return released
        right = int(defense.config.secret)
        key = {"right": right, "wrong": right + _OFF, "none": None}[self.config.key]
        with torch.no_grad():
            parts = [defense.erase(part, key) for part in to_float(released).split(_BATCH)]
        return to_bytes(torch.cat(parts))


ATTACK = Erasure
