"""Templates that say nothing: the control that stands at the bottom of the scale."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench.api import DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked, numpy_generator, unit_rows


class RandomTemplate(TemplateProtection):
    """A random unit vector for each embedding, drawn anew each time: nothing is released and nothing can be matched."""

    version = 1
    card = DefenseCard(
        title="Random template",
        plain="Stores random numbers instead of a description of the face. It marks the best possible privacy and "
        "the worst possible usefulness.",
        family="control",
        reference="ppfr-bench",
        licence="MIT",
        control=True,
        randomness="per_call",
    )

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Random unit rows of the same shape."""
        return unit_rows(numpy_generator(generator).standard_normal(np.shape(checked(embeddings))))

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine in [-1, 1]."""
        return np.asarray((probes * references).sum(axis=1))


DEFENSE = RandomTemplate
