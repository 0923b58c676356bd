"""Template naming: whose template is it, given clear photos of everybody."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench.api import Attack, AttackCard, AttackerView, FloatArray
from ppfr_bench.learning.heads import head_validation_mask
from ppfr_bench.template.api import TemplateView
from ppfr_bench.template.reading import ReadingConfig, choose_reading


class TemplateNaming(Attack):
    """Steals the templates and what the matcher has of the key, and has clear photos of the people.

    It enrols its own people as the system does, learns the map from their templates back to embeddings, and compares
    those with the embeddings of the photos.
    """

    version = 1
    card = AttackCard(
        title="Naming of templates",
        plain="Steals protected face templates together with the key material of the system, and finds out with "
        "clear photos whose templates they are.",
        family="linkage",
        reference="ISO/IEC 30136:2018, full disclosure; the map: ppfr-bench",
        licence="MIT",
        measures="named_template",
        knowledge="aware",
        learned=True,
        needs_recognizer=True,
        needs_gallery=True,
        tracks=("template",),
    )
    Config = ReadingConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Learn the map on its own people."""
        assert isinstance(view, TemplateView)
        held_out = head_validation_mask(view.auxiliary.identities, generator)
        self._reading = choose_reading(view.own, view.own_embeddings, held_out, self.config, generator)
        self.log |= {"shots": 1, "training_images": int((~held_out).sum()), **self._reading.note}

    def run(self, view: AttackerView) -> FloatArray:
        """Cosines (targets, gallery)."""
        assert isinstance(view, TemplateView) and view.gallery_embeddings is not None, "the card asks for it"
        return np.asarray(self._reading.map(view.released) @ view.gallery_embeddings.T)


ATTACK = TemplateNaming
