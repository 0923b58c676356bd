"""Slerp rotation: groups of the template are turned most of the way to secret directions, and half is dropped."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import Config, DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked, numpy_generator, part_of


class SlerpRotationConfig(Config):
    """``alpha``: how far a group is turned; ``group``: numbers in one; ``drop``: the share that is left out."""

    alpha: float = Field(0.9, ge=0, lt=1)
    group: int = Field(16, ge=2)
    drop: float = Field(0.5, ge=0, lt=1)


class SlerpRotation(TemplateProtection):
    """Each group of 16 numbers, at unit length, is turned by spherical interpolation to a direction of the key.

    What is left of the differences between people is small, and cosine still orders it. Half of each group is dropped.
    """

    version = 1
    card = DefenseCard(
        title="Slerp rotation",
        plain="Turns the numbers that describe a face, in groups, most of the way to secret directions, and drops "
        "half of them. A new key gives a new template.",
        family="cancelable template",
        reference="after SlerpFace: Zhong et al., Face Template Protection via Slerp, AAAI 2025",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "A reconstruction from the paper's description: the recognizer is not trained to order its features.",
            "The directions and the places that are dropped are the system's key; the paper draws noise a person.",
            "Groups lose their length, which the paper may weigh otherwise.",
        ),
    )
    Config = SlerpRotationConfig

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``directions`` (groups, size) of unit length and ``kept`` int64 (groups, kept) places."""
        draws, size = numpy_generator(generator), min(self.config.group, dimension)
        groups = -(-dimension // size)
        directions = draws.standard_normal((groups, size))
        kept = max(1, size - round(self.config.drop * size))
        places = np.sort(np.argsort(draws.random((groups, size)), axis=1)[:, :kept], axis=1)
        return {
            "directions": directions / np.linalg.norm(directions, axis=1, keepdims=True), "kept": places,
            "dimension": np.asarray(dimension),
        }  # fmt: skip

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """(n, groups * kept)."""
        directions, kept = part_of(key, "directions"), part_of(key, "kept")
        rows = checked(embeddings, int(part_of(key, "dimension")))
        filled = np.pad(rows, ((0, 0), (0, directions.size - rows.shape[1])))
        parts = filled.reshape(len(rows), *directions.shape)
        parts = parts / np.maximum(np.linalg.norm(parts, axis=2, keepdims=True), 1e-12)
        turned = _slerp(parts, directions, self.config.alpha)
        return np.take_along_axis(turned, kept[None], axis=2).reshape(len(rows), kept.size)

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine in [-1, 1]."""
        lengths = np.linalg.norm(probes, axis=1) * np.linalg.norm(references, axis=1)
        return np.asarray((probes * references).sum(axis=1) / np.maximum(lengths, 1e-12))


def _slerp(start: FloatArray, end: FloatArray, alpha: float) -> FloatArray:
    """Unit vectors ``alpha`` of the way from ``start`` to ``end`` along the sphere, (..., k)."""
    angle = np.arccos(np.clip((start * end).sum(axis=-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    straight = sine < 1e-6
    first, second = np.sin((1 - alpha) * angle), np.sin(alpha * angle)
    safe = np.where(straight, 1.0, sine)
    return np.where(straight, start, (first * start + second * end) / safe)


DEFENSE = SlerpRotation
