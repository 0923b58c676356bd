"""BioHashing: the signs of the template's products with secret orthonormal directions."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import Config, DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked, numpy_generator, part_of


class BioHashingConfig(Config):
    """``bits``: of a protected template; of a shorter embedding as many as it has numbers. 0 stands for all."""

    bits: int = Field(0, ge=0)


class BioHashing(TemplateProtection):
    """Orthonormal directions come from the system's key (the token); the template is one bit a direction.

    Bits are compared by the share that agrees. A bit tells on which side of a plane the template lies: with the token
    known, many planes tell where it is.
    """

    version = 1
    card = DefenseCard(
        title="BioHashing",
        plain="Compares the list of numbers that describes a face with secret random directions and stores only a "
        "yes or a no for each. A new key gives a new template.",
        family="cancelable template",
        reference="Teoh, Ngo and Goh, BioHashing, Pattern Recognition 2004; Jin et al. 2004",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "One token a system and not one a person: accuracy is that under a stolen token.",
            "As many bits as the embedding has numbers, where the papers use fewer; `bits` sets it.",
        ),
    )
    Config = BioHashingConfig

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``directions`` (d, k), orthonormal columns."""
        bits = min(self.config.bits or dimension, dimension)
        normal = numpy_generator(generator).standard_normal((dimension, bits))
        directions, triangle = np.linalg.qr(normal)
        return {"directions": directions * np.sign(triangle.diagonal())}  # So they do not depend on the library.

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Bits (n, k), 0 or 1."""
        directions = part_of(key, "directions")
        return np.asarray(checked(embeddings, len(directions)) @ directions > 0, dtype=np.float64)

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Share of the bits that agree, in [0, 1]."""
        return np.asarray((probes == references).mean(axis=1))


DEFENSE = BioHashing
