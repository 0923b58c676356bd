"""Linkage student: an adaptor before a frozen recognizer, trained so that a protected image embeds as the clear one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import (
    SIZE,
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
from ppfr_bench.learning.adaptation import Student, StudentConfig, embed_with
from ppfr_bench.learning.inverter import rebuild
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.restriction import Restriction


class LinkageStudentConfig(StudentConfig):
    """``images``: of its own that it learns from, 0 for all; ``trained_on``: the defense, or a high-pass proxy."""

    images: int = Field(0, ge=0)
    trained_on: Literal["defense", "high_pass"] = "defense"


class LinkageStudent(Student):
    """Trains student(protected) = teacher(clear), the student being a network before the teacher's own recognizer: L5.

    Compares the student's embeddings of the targets with the teacher's of the clear gallery. ``trained_on`` high_pass
    knows nothing of the defense: it learns on a generic high-pass filter of its own, and is used on the targets as is.
    """

    version = 4
    card = AttackCard(
        title="Linkage student",
        family="linkage",
        reference="FaceLinkGen (adaptor and distillation); ladder L5 of the threat model",
        licence="MIT",
        measures="identity",
        knowledge="aware",
        learned=True,
        needs_gallery=True,
        needs_surrogate=True,
        deviations=("The adaptor is the U-Net of the reconstruction attacks; the recognizer stays frozen.",),
    )
    Config = LinkageStudentConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data and the plain U-Net; those of the restricted view, where the parameters restrict it."""
        materials, restriction = self._of_restricted(scope), self._restriction()
        return materials if restriction is None else tuple(map(restriction.material, materials))

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train the adaptor."""
        restriction = self._restriction()
        if restriction is not None:
            view = restriction.view(view, self._of_restricted(view.scope))
        super().fit(view, generator)
        self.log["trained_on"] = self.config.trained_on

    def _of_restricted(self, scope: Scope) -> tuple[Material, ...]:
        """What a student starts from in the restricted view, given the scope of the whole one."""
        high_pass = self.config.trained_on == "high_pass"
        return super().starts_from(replace(scope, releases_image=True) if high_pass else scope)

    def _restriction(self) -> Restriction | None:
        """What the parameters leave of the view; None where that is all."""
        c = self.config
        if not c.images and c.trained_on == "defense":
            return None
        return Restriction({"images": c.images, "trained_on": c.trained_on}, self._restrict)

    def _restrict(self, view: AttackerView) -> AttackerView:
        c = self.config
        if c.images:
            rows = np.arange(min(c.images, len(view.auxiliary)))
            assert view.auxiliary_protected is not None
            view = replace(
                view, auxiliary=subset(view.auxiliary, rows), auxiliary_protected=view.auxiliary_protected[rows]
            )
        if c.trained_on == "high_pass":
            proxy = np.concatenate([_high_pass(batch) for batch in view.auxiliary.batches(128)])
            targets = view.targets if view.releases_image else np.stack([view.render(shot) for shot in view.targets])
            view = replace(
                view, auxiliary_protected=proxy, oracle=None, targets=targets, releases_image=True, render=np.asarray
            )
        return view

    def run(self, view: AttackerView) -> FloatArray:  # type: ignore[override]  # Its answer is scores.
        """Similarities (n_targets, n_gallery)."""
        assert view.gallery is not None, "the card asks for it"
        adapted = resize(rebuild(self.network, self.data.targets, self.data.target_estimates), SIZE)
        probes, gallery = (embed_with(self.teacher, part) for part in (adapted, to_float(view.gallery)))
        return (probes @ gallery.T).cpu().numpy().astype(np.float64)  # Attacks answer with NumPy arrays.


def _high_pass(images: ByteArray) -> ByteArray:
    """Grey plus what a Gaussian of two pixels takes away."""
    from torchvision.transforms.functional import gaussian_blur  # It takes a second, and every suite loads this file.

    clear = to_float(images)
    return to_bytes((0.5 + clear - gaussian_blur(clear, [13, 13], [2.0, 2.0])).clamp(0, 1))


ATTACK = LinkageStudent
