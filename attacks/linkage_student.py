"""Linkage student: an adaptor before a frozen recognizer, trained so that a protected image embeds as the clear one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torchvision.transforms.functional import gaussian_blur

from ppfr_bench.api import SIZE, AttackCard, AttackerView, to_bytes, to_float
from ppfr_bench.datasets.faces import subset

from ._adaptation import Apart, Student, StudentConfig
from ._images import resize
from ._inverter import Images, rebuild


class LinkageStudentConfig(StudentConfig):
    """``images``: of its own that it learns from, 0 for all; ``trained_on``: the defense, or a high-pass proxy."""

    images: int = Field(0, ge=0)
    trained_on: Literal["defense", "high_pass"] = "defense"


class LinkageStudent(Student):
    """Trains student(protected) = teacher(clear), the student being a network before the teacher's own recognizer: L5.

    Compares the students of the targets with the teacher's clear gallery. ``trained_on`` high_pass knows nothing of the
    defense: it learns on a generic high-pass filter of its own and hopes that it carries over.
    """

    version = 2
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

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train the adaptor."""
        super().fit(self._own(view), generator)
        self.log["trained_on"] = self.config.trained_on

    def _own(self, view: AttackerView) -> AttackerView:
        """The view as cut down by the parameters."""
        c = self.config
        if c.images:
            rows = np.arange(min(c.images, len(view.auxiliary)))
            assert view.auxiliary_protected is not None
            view = replace(
                view, auxiliary=subset(view.auxiliary, rows), auxiliary_protected=view.auxiliary_protected[rows]
            )
        if c.trained_on == "high_pass":
            proxy = np.concatenate([_high_pass(batch) for batch in view.auxiliary.batches(128)])
            pictures = np.stack([view.picture(shot) for shot in view.targets]) if view.representation else view.targets
            view = replace(
                view, auxiliary_protected=proxy, oracle=None, targets=pictures, representation=False, picture=np.asarray
            )
        if c.images or c.trained_on == "high_pass":
            view = replace(view, workbench=Apart(view.workbench, {"images": c.images, "trained_on": c.trained_on}))
        return view

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:  # type: ignore[override]
        """Similarities (n_targets, n_gallery)."""
        assert view.gallery is not None, "the card asks for it"
        adapted = resize(rebuild(self.network, self.scene.targets, self.scene.targets_first), SIZE)
        with torch.inference_mode():
            left, right = (
                torch.cat([self._teacher(part) for part in images.split(32)])
                for images in (adapted, to_float(view.gallery))
            )
        return (left @ right.T).double().numpy()


def _high_pass(images: Images) -> Images:
    """Grey plus what a Gaussian of two pixels takes away."""
    clear = to_float(images)
    return to_bytes((0.5 + clear - gaussian_blur(clear, [13, 13], [2.0, 2.0])).clamp(0, 1))


ATTACK = LinkageStudent
