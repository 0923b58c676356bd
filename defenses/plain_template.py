"""No protection of templates: the control that stands at the top of the scale."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench.api import DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked


class PlainTemplate(TemplateProtection):
    """The embedding as it is, compared by cosine: what any attack can get, and what any method can keep."""

    version = 1
    stored_in_clear = True
    card = DefenseCard(
        title="Plain template",
        plain="Stores the list of numbers that describes a face without any protection. It marks what every attack "
        "can reach and what every method can keep.",
        family="control",
        reference="ppfr-bench",
        licence="MIT",
        control=True,
    )

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """The embeddings."""
        return checked(embeddings)

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine in [-1, 1]."""
        return np.asarray((probes * references).sum(axis=1))


DEFENSE = PlainTemplate
