"""Recognizers adapted to a defense: heads in closed form, and an adaptor trained before a frozen recognizer.

What the attacks of ladder L3 and L5 learn, and the fine-tuned recognizer of a representation's utility.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from ppfr_bench.api import SIZE, Arrays, AttackerView, Workbench, to_float

from ._images import held_out, resize
from ._inverter import Images, InverterConfig, WarmInverter, fitted_once, rebuild, set_scene
from ._network import mixed_precision

Floats = npt.NDArray[np.float64]
SHRINKAGES = (0.03, 0.3, 3.0)  # towards a round covariance, times its mean variance
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # of the map, times the mean squared length
HELD_OUT = 0.2  # of the people, who choose between heads
_BATCH = 32


# Heads in closed form -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """Embeddings of protected and of clear images into one space, compared there by cosine."""

    mean: Floats
    whiten: Floats
    map: Floats | None  # from protected to clear embeddings; None: both sides protected
    clear_mean: Floats

    def probes(self, embeddings: Floats) -> Floats:
        """(n, d) of protected images -> unit rows."""
        x = embeddings - self.mean
        return unit((x if self.map is None else x @ self.map) @ self.whiten)

    def gallery(self, embeddings: Floats) -> Floats:
        """(n, d) of the other side's images -> unit rows."""
        return unit((embeddings - (self.mean if self.map is None else self.clear_mean)) @ self.whiten)


@dataclass(frozen=True)
class Choice:
    """A head as chosen on held-out people, and the share of them that it named."""

    head: Head
    share: float
    note: dict[str, float]


def judges(identities: npt.NDArray[np.int64], generator: torch.Generator) -> npt.NDArray[np.bool_]:
    """True for the images of a fifth of the people, who choose between heads; of all, where there is but one."""
    held = held_out(identities, HELD_OUT, generator)
    return held if held.any() else ~held


def choose_head(
    protected: Floats, clear: Floats, identities: npt.NDArray[np.int64], held: npt.NDArray[np.bool_], to_clear: bool
) -> Choice:
    """The head that names most of the held-out people, then fitted on all.

    One kind whitens what varies within a person and compares protected with protected; the other (``to_clear``) maps
    protected embeddings to those of the clear photos first.
    """
    known = ~held if not held.all() else held
    found: list[tuple[float, float, float]] = []
    for shrinkage in SHRINKAGES:
        for strength in STRENGTHS if to_clear else (0.0,):
            head = fit_head(protected[known], clear[known], identities[known], shrinkage, strength)
            side = clear if to_clear else protected
            scores = head.probes(protected[held]) @ head.gallery(side[held]).T
            found.append((share_named(scores, identities[held]), shrinkage, strength))
    share, shrinkage, strength = max(found)
    head = fit_head(protected, clear, identities, shrinkage, strength)
    return Choice(head, share, {"held_out_rank_1": round(share, 4), "shrinkage": shrinkage, "strength": strength})


def fit_head(
    protected: Floats, clear: Floats, identities: npt.NDArray[np.int64], shrinkage: float, strength: float
) -> Head:
    """Row by row of the same photos; ``strength`` of the map to the clear side, 0 for none."""
    mean, clear_mean = protected.mean(0), clear.mean(0)
    x, y = protected - mean, clear - clear_mean
    mapped, linear = x, None
    if strength:
        gram = x.T @ x
        scale = max(float(gram.diagonal().mean()), 1e-12)
        linear = np.linalg.solve(gram + strength * scale * np.eye(len(gram)), x.T @ y)
        mapped = y
    order = np.argsort(identities, kind="stable")
    people, starts = np.unique(identities[order], return_index=True)
    means = np.add.reduceat(mapped[order], starts, axis=0) / np.diff([*starts, len(order)])[:, None]
    within = mapped[order] - means[np.searchsorted(people, identities[order])]
    covariance = within.T @ within / max(len(within) - len(people), 1)
    scale = max(float(covariance.diagonal().mean()), 1e-12)
    values, vectors = np.linalg.eigh(covariance + shrinkage * scale * np.eye(len(covariance)))
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    return Head(mean, whiten, linear, clear_mean)


def share_named(scores: Floats, identities: npt.NDArray[np.int64]) -> float:
    """Share of images whose most alike other image is of the same person; a tie counts as chance."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    same = identities[:, None] == identities[None, :]
    np.fill_diagonal(same, False)
    best = scores >= scores.max(axis=1, keepdims=True)
    usable = same.any(axis=1)
    if not usable.any():
        return 0.0
    return float(((best & same).sum(1) / best.sum(1))[usable].mean())


def unit(rows: Floats) -> Floats:
    """Rows of length 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


# The adaptor --------------------------------------------------------------------------------------------------------


class StudentConfig(InverterConfig):
    """``steps`` under the identity loss, after ``warm`` steps of the plain network."""

    steps: int = Field(200, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(1e-3, gt=0)


class Student(WarmInverter):
    """Base: trains student(protected) = teacher(clear), the student being a network before the teacher's recognizer."""

    Config = StudentConfig

    def prepare(self, view: AttackerView) -> None:
        """Fetch the teacher."""
        assert view.surrogate is not None, "the card asks for it"
        self._teacher = view.surrogate

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """1 - cosine of what the teacher sees in the adapted and in the clear images, of every other image."""
        with mixed_precision():
            student, teacher = (
                self._teacher(resize(images.clamp(0, 1), SIZE)).float() for images in (answer[::2], clear[::2])
            )
        distance: torch.Tensor = 1 - (student * teacher).sum(1).mean()
        return distance


@dataclass(frozen=True)
class Adapted:
    """Embeddings by a recognizer adapted to a defense: of the attacker's own images, and of those asked for."""

    own: Floats
    released: Floats
    log: dict[str, Any]


def adapt(view: AttackerView, released: Images, config: StudentConfig) -> Adapted:
    """Fine-tune the view's surrogate on protected images of the auxiliary people; embed ``released`` (n, 3, h, w).

    The adaptor is trained once a workbench, however often and for whatever images it is asked.
    """
    surrogate = view.surrogate
    assert surrogate is not None, "there is nothing to fine-tune without a recognizer with gradients"
    network, log = fitted_once(view, _Plain(config), "student", version=1)
    digest = hashlib.sha256(np.ascontiguousarray(released).tobytes()).hexdigest()
    bench = Apart(view.workbench, {"released": digest})
    scene = set_scene(replace(view, targets=released[None], workbench=bench), config.size, 1)
    own, theirs = (
        embed_with(surrogate, rebuild(network, seen, first))
        for seen, first in ((scene.seen, scene.first), (scene.targets, scene.targets_first))
    )
    return Adapted(own, theirs, log)


def embed_with(teacher: torch.nn.Module, images: torch.Tensor) -> Floats:
    """float32 (n, 3, s, s) in [0, 1] -> float64 (n, d)."""
    with torch.inference_mode():
        parts = [teacher(resize(part, SIZE)) for part in images.split(_BATCH)]
    return torch.cat(parts).double().numpy()


class _Plain(Student):
    """The adaptor alone; ``linkage_student`` is its face to the world."""


class Apart:
    """A workbench that keeps apart what was learnt from, or is asked of, other material."""

    def __init__(self, workbench: Workbench, material: dict[str, Any]) -> None:
        self._workbench, self._material = workbench, material

    def share(self, name: str, spec: Mapping[str, Any], compute: Callable[[torch.Generator], Arrays]) -> Arrays:
        """As the workbench, under a spec that tells the material."""
        return self._workbench.share(name, {**spec, "material": self._material}, compute)


def clear_embeddings(surrogate: torch.nn.Module, images: Images) -> Floats:
    """uint8 (n, 3, 112, 112) -> what the teacher itself sees, float64 (n, d)."""
    return embed_with(surrogate, to_float(images))
