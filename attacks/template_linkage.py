"""Template linkage: which templates of two systems, each with a key of its own, are of one person."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ppfr_bench.api import Attack, AttackCard, AttackerView, FloatArray
from ppfr_bench.learning.heads import head_validation_mask, share_named
from ppfr_bench.template.api import TemplateView
from ppfr_bench.template.reading import ReadingConfig, choose_reading


class TemplateLinkageConfig(ReadingConfig):
    """``key``: ``same`` where both keys are stolen with the templates; ``other`` where it has the templates alone."""

    key: Literal["same", "other"] = "same"


class TemplateLinkage(Attack):
    """Holds the templates of two systems: a stolen one, and the renewed one under a new key or a second service's.

    With both keys it learns maps back to embeddings on its own people; without, it compares releases as the
    method does. Held-out people choose where it has both.
    """

    version = 1
    card = AttackCard(
        title="Linkage between two systems",
        plain="Holds the face templates of two systems with different keys, and finds out which templates belong to"
        " the same person.",
        family="unlinkability",
        reference="Gomez-Barrero et al., IEEE TIFS 2018; ISO/IEC 24745, 30136",
        licence="MIT",
        measures="linked_systems",
        knowledge="aware",
        learned=True,
        needs_recognizer=True,
        needs_protected_gallery=True,
        tracks=("template",),
    )
    Config = TemplateLinkageConfig

    @property
    def key_access(self) -> Literal["same", "other"]:
        """As its parameters say."""
        key: Literal["same", "other"] = self.config.key
        return key

    @property
    def reads_own(self) -> bool:
        """Whether it learns from releases of its own people."""
        return bool(self.config.key == "same")

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Learn a map for each system on its own people, if it has the keys."""
        assert isinstance(view, TemplateView)
        self.log |= {"shots": 1, "map": "none"}
        self._readings = None
        if self.config.key == "other":
            return
        who, config = view.auxiliary.identities, ReadingConfig(steps=self.config.steps, width=self.config.width)
        held_out = head_validation_mask(who, generator)
        first, second = (
            choose_reading(own, view.own_embeddings, held_out, config, generator)
            for own in (view.own, view.own_elsewhere)
        )
        compared = self._compared(view, view.own[held_out], view.own_elsewhere[held_out])
        shares = {
            "maps": share_named(first.held_out @ second.held_out.T, who[held_out]),
            "compared": share_named(compared, who[held_out]),
        }
        if shares["maps"] >= shares["compared"]:
            self._readings = first, second
        self.log |= {"training_images": int((~held_out).sum()), "map": first.note["map"],
                     "held_out_rank_1": {name: round(share, 4) for name, share in shares.items()}}  # fmt: skip

    def run(self, view: AttackerView) -> FloatArray:
        """Scores (targets, gallery) between the systems."""
        assert isinstance(view, TemplateView)
        if self._readings is None:
            return self._compared(view, view.released, view.released_elsewhere)
        first, second = self._readings
        return np.asarray(first.map(view.released) @ second.map(view.released_elsewhere).T)

    def _compared(self, view: TemplateView, left: FloatArray, right: FloatArray) -> FloatArray:
        assert view.compare is not None
        if left.shape[1] != right.shape[1]:
            return np.zeros((len(left), len(right)))
        return np.stack([view.compare(np.repeat(row[None], len(right), axis=0), right) for row in left])


ATTACK = TemplateLinkage
