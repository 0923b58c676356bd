"""Linkage student: a recognizer that is trained so that a protected image embeds as the clear one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import (
    Answers,
    Attack,
    AttackCard,
    AttackerView,
    ByteArray,
    FloatArray,
    Material,
    Scope,
    to_bytes,
    to_float,
)
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.adaptation import (
    Student,
    StudentConfig,
    embed_bytes,
    pictures,
    read_student,
    seen_or_rebuilt,
    student_material,
)
from ppfr_bench.learning.heads import share_named, trust, unit_rows
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import InverterConfig, plain_unet
from ppfr_bench.learning.restriction import Restriction

_OF_CURVE = 4  # Answers after parts of the training are by at most so many releases.
_OF_GALLERY = 4  # So often is each gallery photo sent through the oracle.


class LinkageStudentConfig(StudentConfig):
    """Parameters of the attack beside those of the student.

    Attributes:
        releases: of each target that are compared together.
        images: of its own that it learns from, 0 for all.
        trained_on: the defense, or a high-pass proxy.
    """

    releases: int = Field(1, ge=1, le=64)
    images: int = Field(0, ge=0)
    trained_on: Literal["defense", "high_pass"] = "defense"

    @property
    def student(self) -> LinkageStudentConfig:
        """Of the student, which attacks with other releases share."""
        return LinkageStudentConfig(**self.model_dump(include=set(StudentConfig.model_fields)))

    @property
    def plain(self) -> InverterConfig:
        """Parameters of the plain U-Net whose answers the student may be given: the one that attack ``unet`` trains."""
        return super().plain.model_copy(update={"batch": InverterConfig().batch})


class LinkageStudent(Attack):
    """Trains a whole recognizer so that student(protected) = teacher(clear): L5.

    Compares the student's embeddings of the targets with the teacher's of the clear gallery, and with the student's own
    of the gallery sent through the oracle; each counts as much as it named of the people held out. Of several releases
    of a target it takes the mean embedding, and the embedding of their mean. ``trained_on`` high_pass knows nothing of
    the defense: it learns on a generic high-pass filter of its own, once for all defenses, and is used on the targets
    as is.
    """

    version = 8
    card = AttackCard(
        title="Linkage student",
        plain="Trains a whole face recognizer on protected and clear photos of other people until it gives both the"
        " same description. Then it names the person on the protected image.",
        family="linkage",
        reference="FaceLinkGen, arXiv 2602.02914 (adaptor, whole recognizer and distillation); ladder L5 of the threat "
        "model",
        licence="MIT",
        measures="identity",
        knowledge="aware",
        learned=True,
        needs_gallery=True,
        needs_surrogate=True,
        builds_on=("linkage",),
        deviations=(
            "The surrogate with two convolutions before it is the student, trained on the attacker's few images for "
            "minutes; the paper trains a larger one on 90,000.",
            "It is given images: releases as they are, channels read place by place, or the answers of the U-Net.",
        ),
    )
    Config = LinkageStudentConfig

    @property
    def shots(self) -> int:
        """As many releases as are compared."""
        return int(self.config.releases)

    def decided_by(self, scope: Scope) -> Any:
        """As many releases as there are."""
        found: dict[str, Any] = self.config.model_dump(mode="json")
        return found | {"releases": min(self.config.releases, scope.shots)}

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The student, what it learns from, and what the targets are seen as."""
        learning, looking = self._restrictions()
        learnt, seen = self._learnt(scope), self._seen(scope)
        return (*map(learning.material, learnt), *map(looking.material, seen))

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Read the student; learn on held-out people how much to make of each side that it can be compared with."""
        learning, _ = self._restrictions()
        view = learning.view(view, self._learnt(view.scope))
        config = self.config.student
        self.student = read_student(view, view.scope, config)
        data = read_inversion_data(view, config.size, 1)
        self.log |= self.student.log | {"trained_on": self.config.trained_on}
        rows = data.validation_rows
        faces = subset(view.auxiliary, data.rows[rows.numpy()])
        assert view.surrogate is not None, "the card asks for it"
        self.teacher = device.to(view.surrogate)
        protected = embed_bytes(self.student.network, seen_or_rebuilt(view, data, rows, self.student.given, config))
        clear = embed_bytes(self.teacher, faces.load(range(len(faces))))
        self.log["named"] = {
            side: round(share_named(protected @ other.T, faces.identities), 4)
            for side, other in (("clear", clear), ("protected", protected))
        }
        self._weights = {side: trust(share, faces.identities) for side, share in self.log["named"].items()}
        self.log["held_out"] = {"rank_1": self.log["named"]["clear"]}

    def run(self, view: AttackerView) -> Answers:
        """Similarities (n_targets, n_gallery), and those after parts of the training, by at most four releases."""
        assert view.gallery is not None, "the card asks for it"
        gallery, weights, (learning, looking) = view.gallery, self._weights, self._restrictions()
        materials = learning.read(view, self._learnt(view.scope)) | looking.read(view, self._seen(view.scope))
        view = replace(looking.restrict(view), materials=materials)
        data = read_inversion_data(view, self.config.size, self.config.releases)
        self.log["shots"], given = data.log["shots"], self.student.given
        clear = embed_bytes(self.teacher, gallery)
        drawn: list[ByteArray] = []
        if given == "seen" and not data.key:
            shots = [pictures(view, data, shot) for shot in view.targets[: data.log["shots"]]]
            if view.oracle is not None:
                drawn = [pictures(view, data, view.oracle.protect(gallery)) for _ in range(_OF_GALLERY)]
        else:
            shots = [seen_or_rebuilt(view, data, None, given, self.config.student)]

        def scores(network: Student, compared: list[ByteArray]) -> FloatArray:
            probes = _pooled(network, compared)
            found = weights["clear"] * probes @ clear.T
            if drawn:
                found = found + weights["protected"] * probes @ _pooled(network, drawn).T
            return np.asarray(found, dtype=np.float64)

        some = shots[:_OF_CURVE]  # The curve costs as much as the answer for every part of the training.
        at = {size: scores(network, some) for size, network in self.student.at.items()}
        if at and len(some) < len(shots):
            at[self.config.steps] = scores(self.student.network, some)
        return Answers(scores(self.student.network, shots), at=at)

    def _learnt(self, scope: Scope) -> tuple[Material, ...]:
        """The student and what it starts from, in the view that it learns in."""
        c, scope = self.config, self._shown(scope)
        return inversion_data(scope, c.size, 1), plain_unet(scope, c.plain), student_material(scope, c.student)

    def _seen(self, scope: Scope) -> tuple[Material, ...]:
        """The targets as they are seen, in the view in which they are looked at."""
        c, scope = self.config, self._shown(scope)
        return (inversion_data(scope, c.size, min(c.releases, scope.shots)),)

    def _shown(self, scope: Scope) -> Scope:
        """The scope of what is given to the student: images, where it learns on a filter of images."""
        return replace(scope, releases_image=True) if self.config.trained_on == "high_pass" else scope

    def _restrictions(self) -> tuple[Restriction, Restriction]:
        """What the parameters leave of the view to learn from, and to look at the targets in."""
        c = self.config
        if not c.images and c.trained_on == "defense":
            whole = Restriction({}, lambda view: view)
            return whole, whole
        spec = {"images": c.images, "trained_on": c.trained_on}
        looking = Restriction(spec, self._restrict)
        if c.trained_on == "defense":
            return looking, looking
        return Restriction(spec | {"of": "clear images"}, self._of_clear_images, of_clear_images=True), looking

    def _of_clear_images(self, view: AttackerView) -> AttackerView:
        """The restricted view with one of the attacker's own images in place of the targets."""
        view = self._restrict(view)
        assert view.auxiliary_protected is not None
        return replace(view, targets=view.auxiliary_protected[None, :1])

    def _restrict(self, view: AttackerView) -> AttackerView:
        c = self.config
        if c.images:
            rows, own = np.arange(min(c.images, len(view.auxiliary))), view.auxiliary_protected
            own = None if own is None else own[rows]  # A view of clear images has none.
            view = replace(view, auxiliary=subset(view.auxiliary, rows), auxiliary_protected=own)
        if c.trained_on == "high_pass":
            proxy = np.concatenate([_high_pass(batch) for batch in view.auxiliary.batches(128)])
            targets = view.targets if view.releases_image else np.stack([view.render(shot) for shot in view.targets])
            view = replace(
                view, auxiliary_protected=proxy, oracle=None, targets=targets, releases_image=True, render=np.asarray
            )
        return view


def _pooled(network: Student, shots: list[ByteArray]) -> FloatArray:
    """Unit (n, d): of releases of n images the mean embedding, and the embedding of the mean."""
    found = np.mean([embed_bytes(network, shot) for shot in shots], axis=0)
    if len(shots) > 1:
        together = torch.stack([to_float(shot) for shot in shots]).mean(0)
        found = found + embed_bytes(network, to_bytes(together))
    return unit_rows(found)


def _high_pass(images: ByteArray) -> ByteArray:
    """Grey plus what a Gaussian of two pixels takes away."""
    from torchvision.transforms.functional import gaussian_blur  # It takes a second, and every suite loads this file.

    clear = to_float(images)
    return to_bytes((0.5 + clear - gaussian_blur(clear, [13, 13], [2.0, 2.0])).clamp(0, 1))


ATTACK = LinkageStudent
