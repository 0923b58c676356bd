"""A recognizer adapted to a defense: all of it is trained so that a protected image embeds as the clear one.

Attack ``linkage_student`` (L5 of the threat model) uses it, and so does the fine-tuned recognizer of a representation's
utility.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import (
    SIZE,
    Arrays,
    AttackerView,
    ByteArray,
    FloatArray,
    IntArray,
    Material,
    Scope,
    to_bytes,
    to_float,
)
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.heads import choose_head, share_named
from ppfr_bench.learning.inversion import InversionData, inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import WarmInverterConfig, plain_unet, read_plain_unet, rebuild
from ppfr_bench.learning.observations import seen_as_images
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.restriction import Restriction
from ppfr_bench.learning.unet import Batch, train, weights_from
from ppfr_bench.learning.validation import held_out_people

_BATCH = 32
_CHECKED = 128  # At most so many images of held-out people are validated on.
_AT = "at_"  # Before the number of steps that weights were reached after.
_TRIAL = 8  # One in so many steps is spent on finding out what a student is best given.
_WIDTH = 16  # Channels between the two convolutions before the recognizer.


Reached = Callable[[nn.Module, int | None], None]  # A student, and the steps after which it is what it is.
Trained = tuple["Student", dict[str, Any], float]  # The student, the log of its training, its loss on held-out people.


class StudentConfig(WarmInverterConfig):
    """Parameters of a student.

    Attributes:
        steps: of training, of the whole recognizer.
        batch: images a step.
        warm: steps of the plain U-Net, whose answers the student may be given.
        learning_rate: the greatest of the one-cycle schedule.
        draws: releases of each of its own images that it learns from; those beyond the first come from the oracle.
    """

    steps: int = Field(200, ge=1)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    draws: int = Field(2, ge=1, le=16)


class Student(nn.Module):
    """A copy of the teacher behind two convolutions that correct nothing before training."""

    def __init__(self, teacher: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.recognizer = deepcopy(teacher).requires_grad_(True)
        with weights_from(generator):
            last = nn.Conv2d(_WIDTH, 3, 5, padding=2)
            self.before = nn.Sequential(nn.Conv2d(3, _WIDTH, 5, padding=2), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> unit (n, d)."""
        images = images.contiguous(memory_format=torch.channels_last)
        embedded: torch.Tensor = self.recognizer(images + self.before(images - 0.5))
        return embedded


def embed_with(teacher: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """float32 (n, 3, s, s) in [0, 1], on the teacher's device -> float32 (n, d), embedded at 112 pixels."""
    with torch.inference_mode():
        return torch.cat([teacher(resize(part, SIZE)) for part in images.split(_BATCH)])


def embed_bytes(network: nn.Module, images: ByteArray) -> FloatArray:
    """uint8 (n, 3, 112, 112) -> float64 (n, d); heads are fitted in float64, which not every device has."""
    parts = [embed_with(network, to_float(images[start : start + _BATCH])) for start in range(0, len(images), _BATCH)]
    return torch.cat(parts).cpu().numpy().astype(np.float64)


# What a student is given ------------------------------------------------------------------------------------------


def pictures(view: AttackerView, data: InversionData, released: ByteArray) -> ByteArray:
    """What is seen of releases (n, ...) at full size, decoded where a key was found: uint8 (n, 3, 112, 112)."""
    parts = []
    for start in range(0, len(released), _BATCH):
        some = np.asarray(released[start : start + _BATCH])
        if view.releases_image:
            images = to_float(some if data.decoder is None else data.decoder(some))
        else:
            images = to_float(seen_as_images(view, some, data.reading))[..., :SIZE, :SIZE]
        parts.append(to_bytes(resize(images, SIZE)))
    return np.concatenate(parts)


def _seen(view: AttackerView, data: InversionData, rows: torch.Tensor) -> ByteArray:
    """The attacker's own images as they are seen, of these rows of the data."""
    if data.key:  # Only the images whose key was undone are worth a look.
        return _at_full_size(data.own.images[rows].float())
    assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
    return pictures(view, data, view.auxiliary_protected[data.rows[rows.numpy()]])


def _at_full_size(images: torch.Tensor) -> ByteArray:
    return np.concatenate([to_bytes(resize(part, SIZE)) for part in images.split(_BATCH)])


# Training ---------------------------------------------------------------------------------------------------------


def student_material(scope: Scope, config: StudentConfig) -> Material:
    """The material ``student``, which ``read_student`` reads: weights, what it is given, and a log.

    It starts from the data of one shot and from the plain U-Net. It needs the surrogate.
    """
    return Material(
        "student", config.model_dump() | {"version": 6}, partial(_train, config=config),
        (inversion_data(scope, config.size, 1), plain_unet(scope, config.plain)),
        queries=config.draws > 1, needs_surrogate=True,
    )  # fmt: skip


def student_materials(scope: Scope, config: StudentConfig) -> tuple[Material, ...]:
    """What ``adapted`` reads: the plain U-Net, the student, and whom it has not learnt from."""
    return plain_unet(scope, config.plain), student_material(scope, config), held_out_people()


def _train(view: AttackerView, generator: torch.Generator, config: StudentConfig) -> Arrays:
    """Train on the images of the people who are not held out, and keep the weights that do best on the others.

    The student is given releases as they are seen, or the answers of the plain U-Net: whichever leaves it the smaller
    loss on the people held out after a trial of an eighth of the steps. Before any training the U-Net's answers look
    better; but the U-Net has learnt from the very images that the student is to learn from, so that what it answers to
    them is not what it answers to others.
    """
    assert view.surrogate is not None, "the material needs it"
    teacher = device.to(view.surrogate)
    data = read_inversion_data(view, config.size, 1)
    faces = subset(view.auxiliary, data.rows)
    clear = torch.cat([embed_with(teacher, to_float(part)) for part in faces.batches(_BATCH)])
    known, held_out = data.training_rows, data.some_validation_rows(_CHECKED)
    start = device.to(Student(teacher, generator))

    def trained(draws: list[ByteArray], checked: ByteArray, steps: int, reached: Reached | None = None) -> Trained:
        student = deepcopy(start)

        def validate() -> float:
            student.eval()
            with torch.no_grad():
                return float(_unlike(embed_with(student, to_float(checked)), clear[held_out]))

        batches = _batches(draws, clear[known], config.batch, generator)
        at = None if reached is None else partial(reached, student)
        return student, train(student, batches, steps, config.learning_rate, _unlike, validate, at), validate()

    tried, shown = {}, {}
    for given in ("seen", "rebuilt"):
        shown[given] = [seen_or_rebuilt(view, data, rows, given, config) for rows in (known, held_out)]
        *_, tried[given] = trained(shown[given][:1], shown[given][1], max(1, config.steps // _TRIAL))
    given = min(tried, key=lambda name: tried[name])
    draws, checked = shown[given][:1], shown[given][1]
    if given == "seen" and not data.key and view.oracle is not None:
        for _ in range(config.draws - 1):
            released = [view.oracle.protect(part) for part in subset(faces, known.numpy()).batches(_BATCH)]
            draws.append(np.concatenate([pictures(view, data, part) for part in released]))
    # Materials are NumPy arrays, as they are kept in files and serve every device.
    weights: dict[str, npt.NDArray[Any]] = {}

    def keep(student: nn.Module, size: int | None) -> None:
        prefix = "" if size is None else f"{_AT}{size}:"
        # Copies, as training goes on in the tensors.
        weights.update({prefix + key: tensor.cpu().numpy().copy() for key, tensor in student.state_dict().items()})

    student, log, _ = trained(draws, checked, config.steps, keep)
    keep(student, None)
    log = data.log | log | {"batch": config.batch, "given": given, "draws": len(draws)}
    log["tried"] = {name: round(loss, 5) for name, loss in tried.items()}
    return weights | {"log": np.array(json.dumps(log))}


def _unlike(answer: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - the mean cosine of embeddings (n, d)."""
    return 1 - (answer * wanted).sum(1).mean()


def _batches(draws: list[ByteArray], wanted: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Endless batches of one draw of each image, half of them mirrored, in an order drawn anew every round."""
    while True:
        order = torch.randperm(len(wanted), generator=generator)
        for start in range(0, max(1, len(order) - size + 1), size):
            rows = order[start : start + size]
            which = torch.randint(0, len(draws), (len(rows),), generator=generator)
            mirrored = torch.rand(len(rows), generator=generator) < 0.5
            images = to_float(np.stack([draws[int(k)][int(row)] for k, row in zip(which, rows, strict=True)]))
            images = torch.where(device.to(mirrored)[:, None, None, None], images.flip(3), images)
            yield images, images.new_zeros(()), wanted[rows]


@dataclass(frozen=True)
class TrainedStudent:
    """A student and what it is given.

    Attributes:
        network: on the current device.
        given: ``seen`` for releases as they are seen, ``rebuilt`` for the answers of the plain U-Net.
        log: of the training.
        at: the networks after parts of the training, by their size in steps.
    """

    network: Student
    given: str
    log: dict[str, Any]
    at: dict[int, Student]


def read_student(view: AttackerView, scope: Scope, config: StudentConfig) -> TrainedStudent:
    """The student of the material ``student_material(scope, config)``, on the current device.

    Raises:
        UserError: the attack did not declare that material.
    """
    assert view.surrogate is not None, "it is a copy of the surrogate"
    arrays = view.material(student_material(scope, config))
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, array in arrays.items():
        if key != "log":
            prefix, _, name = key.rpartition(":")
            parts.setdefault(prefix, {})[name] = torch.from_numpy(np.array(array))

    def network(weights: dict[str, torch.Tensor]) -> Student:
        assert view.surrogate is not None
        made = Student(view.surrogate, torch.Generator().manual_seed(0))
        made.load_state_dict(weights)
        return device.to(made.eval().requires_grad_(False))

    log = json.loads(str(arrays["log"]))
    at = {int(prefix.removeprefix(_AT)): network(weights) for prefix, weights in parts.items() if prefix}
    return TrainedStudent(network(parts[""]), log["given"], log, at)


def seen_or_rebuilt(
    view: AttackerView, data: InversionData, rows: torch.Tensor | None, given: str, config: StudentConfig
) -> ByteArray:
    """What a student is given of the data's own images, these rows, or of the targets where there are no rows.

    Returns:
        uint8 (n, 3, 112, 112); of several releases of a target, what is made of all together.
    """
    if given == "seen":
        if rows is not None:
            return _seen(view, data, rows)
        return _at_full_size(data.targets.images.float()) if data.key else pictures(view, data, view.targets[0])
    network, _ = read_plain_unet(view, config.plain)
    if rows is not None:
        return _at_full_size(rebuild(network, data.own[rows], data.own_estimates[rows]))
    return _at_full_size(rebuild(network, data.targets, data.target_estimates))


# The recognizer of a representation's utility ---------------------------------------------------------------------


@dataclass(frozen=True)
class Adapted:
    """Embeddings by a recognizer that was adapted to a defense.

    Attributes:
        own: float64 (n, d), of the attacker's own protected images.
        rows: int64 (n,), which of the auxiliary images these are.
        validation: bool (n,), the images of people that were held out of the training.
        released: float64 (m, d), of the released images that were asked for.
        log: of the training.
    """

    own: FloatArray
    rows: IntArray
    validation: npt.NDArray[np.bool_]
    released: FloatArray
    log: dict[str, Any]


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
    return _released(digest).material(inversion_data(scope, size, 1))


def _released(digest: str) -> Restriction:
    return Restriction({"released": digest}, _as_it_is)


def adapted(
    view: AttackerView, released: ByteArray, config: StudentConfig,
    generator_for: Callable[[Material], torch.Generator],
) -> Adapted:  # fmt: skip
    """Embed released images by the view's surrogate, fine-tuned on protected images of the auxiliary people.

    The caller computes ``student_materials(view.scope, config)`` first, and hands them over in ``view.materials``. The
    scene of the released images is computed here, as it cannot be planned before they exist.

    Args:
        view: of an aware attacker with one shot of the targets, a ``surrogate`` and the materials.
        released: uint8 (m, c, h, w), as released.
        config: of the student.
        generator_for: a material, which is ``released_scene`` or what that starts from -> the generator that it is
            computed with; seeded from the material's name and spec as that of every other material is.

    Raises:
        UserError: the student's material is not in the view.
    """
    assert view.surrogate is not None, "there is nothing to fine-tune without a recognizer with gradients"
    student = read_student(view, view.scope, config)
    theirs = replace(view, targets=released[None])
    digest = released_digest(released)
    scene, plain = released_scene(theirs.scope, config.size, digest), inversion_data(theirs.scope, config.size, 1)
    # The people held out are those whom the student has not learnt from.
    found: dict[str, Arrays] = {_released(digest).material(held_out_people()).key: view.material(held_out_people())}

    def compute(material: Material) -> None:
        if material.key in found:
            return
        for earlier in material.starts_from:
            compute(earlier)
        found[material.key] = material.compute(replace(theirs, materials=found), generator_for(material))

    compute(scene)
    theirs = replace(theirs, materials={**view.materials, plain.key: found[scene.key]})
    data = read_inversion_data(theirs, config.size, 1)
    everyone = torch.arange(len(data.rows))
    own, shown = (seen_or_rebuilt(theirs, data, rows, student.given, config) for rows in (everyone, None))
    mask = data.validation.numpy()
    own_embeddings, embeddings = (embed_bytes(student.network, images) for images in (own, shown))
    return Adapted(own_embeddings, data.rows, mask if mask.any() else ~mask, embeddings, student.log)


def fine_tuned_embeddings(found: Adapted, identities: IntArray) -> tuple[FloatArray, dict[str, Any]]:
    """The released images' embeddings by the student alone or with a head, whichever names more held-out people.

    Args:
        found: by ``adapted``.
        identities: int64 (k,), of the auxiliary images.

    Returns:
        float64 (m, d), and what is recorded of the training and of the choice.
    """
    identities = identities[found.rows]
    validation = found.validation
    choice = choose_head(found.own, found.own, identities, validation, to_clear=False)
    alone = share_named(found.own[validation] @ found.own[validation].T, identities[validation])
    embeddings = choice.head.probes(found.released) if choice.share > alone else found.released
    return embeddings, found.log | {"head": choice.note, "without_head_rank_1": round(alone, 4)}


def _as_it_is(view: AttackerView) -> AttackerView:
    return view
