"""PolyProtect: overlapping parts of a template go through secret polynomials."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator

from ppfr_bench.api import Config, DefenseCard, FloatArray
from ppfr_bench.template.api import Key, TemplateProtection, checked, numpy_generator, part_of


class PolyProtectConfig(Config):
    """Parameters of the paper.

    Attributes:
        terms: m, numbers of the embedding in a polynomial.
        overlap: numbers that two consecutive polynomials share.
        largest: coefficients are distinct integers other than 0, from -largest to largest.
    """

    terms: int = Field(5, ge=2, le=10)
    overlap: int = Field(2, ge=0)
    largest: int = Field(50, ge=5)

    @model_validator(mode="after")
    def _advances(self) -> PolyProtectConfig:
        if self.overlap >= self.terms:
            raise ValueError(f"expected an overlap below the {self.terms} terms, got {self.overlap}")
        return self


class PolyProtect(TemplateProtection):
    """p = c_1 v_1^e_1 + ... + c_m v_m^e_m of each part; the key holds the c and a permutation e of 1 to m."""

    version = 1
    card = DefenseCard(
        title="PolyProtect",
        plain="Combines the numbers that describe a face in small groups by secret formulas. A new key gives a new "
        "template.",
        family="cancelable template",
        reference="Hahn and Marcel, Towards Protecting Face Embeddings in Mobile Face Verification Scenarios, "
        "IEEE T-BIOM 2022",
        licence="MIT",
        randomness="per_session_key",
        deviations=(
            "One set of coefficients and exponents a system and not one a person: accuracy is that under a stolen key.",
            "The overlap is 2, of the 0 to 4 that the paper studies.",
        ),
    )
    Config = PolyProtectConfig

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``coefficients`` and ``exponents`` int64 (m,)."""
        draws, m, largest = numpy_generator(generator), self.config.terms, self.config.largest
        possible = np.concatenate([np.arange(-largest, 0), np.arange(1, largest + 1)])
        return {
            "coefficients": draws.choice(possible, m, replace=False), "exponents": draws.permutation(m) + 1,
            "dimension": np.asarray(dimension),
        }  # fmt: skip

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """(n, k), k = 1 + ceil((d - m) / (m - overlap)); the last part is filled with zeros."""
        coefficients, exponents = part_of(key, "coefficients"), part_of(key, "exponents")
        rows = checked(embeddings, int(part_of(key, "dimension")))
        m, step = self.config.terms, self.config.terms - self.config.overlap
        parts = 1 + max(0, -(-(rows.shape[1] - m) // step))
        filled = np.pad(rows, ((0, 0), (0, max(0, (parts - 1) * step + m - rows.shape[1]))))
        places = step * np.arange(parts)[:, None] + np.arange(m)
        return np.asarray((coefficients * filled[:, places] ** exponents).sum(axis=2))

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine in [-1, 1]."""
        lengths = np.linalg.norm(probes, axis=1) * np.linalg.norm(references, axis=1)
        return np.asarray((probes * references).sum(axis=1) / np.maximum(lengths, 1e-12))


DEFENSE = PolyProtect
