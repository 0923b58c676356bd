"""Random projection: the template times a secret random matrix with fewer rows."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import Config, DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked, numpy_generator, part_of, unit_rows


class RandomProjectionConfig(Config):
    """``share``: numbers of a protected template, as a share of those of the embedding."""

    share: float = Field(0.25, gt=0, le=1)


class RandomProjection(TemplateProtection):
    """A Gaussian matrix of the system's key takes d numbers to a quarter as many, which are scaled to unit length.

    Angles are nearly kept (Johnson and Lindenstrauss), so cosine still compares. The map is linear: who has the key, or
    enough pairs, undoes as much of it as the lost dimensions leave.
    """

    version = 1
    card = DefenseCard(
        title="Random projection",
        plain="Multiplies the list of numbers that describes a face by a secret random table, which leaves fewer "
        "numbers. A new key gives a new template.",
        family="cancelable template",
        reference="Teoh, Goh and Ngo, Random Multispace Quantization, IEEE TPAMI 2006 (its projection, not quantised)",
        licence="MIT",
        randomness="per_session_key",
        deviations=("One key a system and not one a person: accuracy is that under a stolen token.",),
    )
    Config = RandomProjectionConfig

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``matrix`` (d, k), standard normal."""
        size = (dimension, max(1, round(self.config.share * dimension)))
        return {"matrix": numpy_generator(generator).standard_normal(size)}

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Unit rows (n, k)."""
        matrix = part_of(key, "matrix")
        return unit_rows(checked(embeddings, len(matrix)) @ matrix)

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine in [-1, 1]."""
        return np.asarray((probes * references).sum(axis=1))


DEFENSE = RandomProjection
