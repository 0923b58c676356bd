"""A frozen recognizer adapted to a defense by a U-Net before it.

Attack ``linkage_student`` (L5 of the threat model) uses it, and so does the fine-tuned recognizer of a representation's
utility.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ppfr_bench import device
from ppfr_bench.api import SIZE, Arrays, AttackerView, ByteArray, FloatArray, IntArray, Material, Scope
from ppfr_bench.learning.heads import choose_head, head_validation_mask, share_named
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import WarmInverter, WarmInverterConfig, read_network, rebuild, trained
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.restriction import Restriction

_BATCH = 32


class StudentConfig(WarmInverterConfig):
    """``steps`` under the identity loss, after ``warm`` steps of the plain U-Net."""


class Student(WarmInverter):
    """A U-Net before a frozen recognizer, the teacher, trained until student(protected) = teacher(clear)."""

    Config = StudentConfig
    answers_apart = False

    def prepare(self, view: AttackerView) -> None:
        """Fetch the teacher."""
        assert view.surrogate is not None, "the card asks for it"
        self.teacher = device.to(view.surrogate)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """1 - cosine of the teacher's embeddings of the adapted and of the clear images, of every other image."""
        with device.autocast():
            student, teacher = (
                self.teacher(resize(images.clamp(0, 1), SIZE)).float() for images in (answer[::2], clear[::2])
            )
        distance: torch.Tensor = 1 - (student * teacher).sum(1).mean()
        return distance


def embed_with(teacher: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """float32 (n, 3, s, s) in [0, 1], on the teacher's device -> float32 (n, d), embedded at 112 pixels."""
    with torch.inference_mode():
        return torch.cat([teacher(resize(part, SIZE)) for part in images.split(_BATCH)])


@dataclass(frozen=True)
class Adapted:
    """Embeddings by a recognizer that was adapted to a defense.

    Attributes:
        own: float64 (n, d), of the attacker's own protected images.
        rows: int64 (n,), which of the auxiliary images these are.
        released: float64 (m, d), of the released images that were asked for.
        log: of the training.
    """

    own: FloatArray
    rows: IntArray
    released: FloatArray
    log: dict[str, Any]


def student_material(scope: Scope, config: StudentConfig) -> Material:
    """The material ``student``: the weights of a ``Student``, and its log.

    It starts from the data of one shot and from the plain U-Net. It needs the surrogate.
    """
    return trained(Student, config, "student", version=3, scope=scope, needs_surrogate=True)


def released_digest(released: ByteArray) -> str:
    """The sha256 of released images' bytes, uint8 (n, c, h, w), which is in the spec of ``released_scene``."""
    return hashlib.sha256(np.ascontiguousarray(released).tobytes()).hexdigest()


def released_scene(scope: Scope, size: int, digest: str) -> Material:
    """The material ``scene`` of released images that take the place of the targets.

    It is computed from ``replace(view, targets=released[None])``.

    Args:
        scope: of the view.
        size: of the student's config.
        digest: ``released_digest`` of the released images.
    """
    return Restriction({"released": digest}, _as_it_is).material(inversion_data(scope, size, 1))


def adapted(
    view: AttackerView, released: ByteArray, config: StudentConfig,
    generator_for: Callable[[Material], torch.Generator],
) -> Adapted:  # fmt: skip
    """Embed released images by the view's surrogate, fine-tuned on protected images of the auxiliary people.

    The caller computes ``student_material(view.scope, config)`` first, and hands it over in ``view.materials``. The
    scene of the released images is computed here, as it cannot be planned before they exist.

    Args:
        view: of an aware attacker with one shot of the targets, a ``surrogate`` and the material.
        released: uint8 (m, c, h, w), as released.
        config: of the student.
        generator_for: a material, which is ``released_scene`` or what that starts from -> the generator that it is
            computed with; seeded from the material's name and spec as that of every other material is.

    Raises:
        UserError: the student's material is not in the view.
    """
    assert view.surrogate is not None, "there is nothing to fine-tune without a recognizer with gradients"
    student = view.material(student_material(view.scope, config))
    network, log = read_network(student, config.width)
    theirs = replace(view, targets=released[None])
    scene = released_scene(theirs.scope, config.size, released_digest(released))
    plain = inversion_data(theirs.scope, config.size, 1)
    found: dict[str, Arrays] = {}
    for material in (*scene.starts_from, scene):
        found[material.key] = material.compute(replace(theirs, materials=found), generator_for(material))
    theirs = replace(theirs, materials={plain.key: found[scene.key]})
    data = read_inversion_data(theirs, config.size, 1)
    surrogate = device.to(view.surrogate)
    # Heads are fitted in float64, which not every device has.
    own, targets = (
        embed_with(surrogate, rebuild(network, observations, estimates)).cpu().numpy().astype(np.float64)
        for observations, estimates in ((data.own, data.own_estimates), (data.targets, data.target_estimates))
    )
    return Adapted(own, data.rows, targets, log)


def fine_tuned_embeddings(
    found: Adapted, identities: IntArray, generator: torch.Generator
) -> tuple[FloatArray, dict[str, Any]]:
    """The released images' embeddings by the adaptor alone or with a head, whichever names more held-out people.

    Args:
        found: by ``adapted``.
        identities: int64 (k,), of the auxiliary images.
        generator: draws the people who are held out, on the CPU.

    Returns:
        float64 (m, d), and what is recorded of the training and of the choice.
    """
    identities = identities[found.rows]
    validation = head_validation_mask(identities, generator)
    choice = choose_head(found.own, found.own, identities, validation, to_clear=False)
    alone = share_named(found.own[validation] @ found.own[validation].T, identities[validation])
    embeddings = choice.head.probes(found.released) if choice.share > alone else found.released
    return embeddings, found.log | {"head": choice.note, "without_head_rank_1": round(alone, 4)}


def _as_it_is(view: AttackerView) -> AttackerView:
    return view
