"""CryptoMask: an encrypted query, shared scores, and one bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from ppfr_bench.api import Config, DefenseCard, FloatArray
from ppfr_bench.template import bfv, cryptomask
from ppfr_bench.template.api import Cost, Key, TemplateProtection, checked, numpy_generator, part_of
from ppfr_bench.template.comparison import compare_shares
from ppfr_bench.template.comparison_party import CLIENT
from ppfr_bench.template.quantised import SCALE, check_modulus, quantise, quantised_cosine

COMPARED = 64  # Templates on which the comparison's cost is measured.
RESIDUES = 256  # Of each polynomial of a ciphertext, what attackers are given.


class CryptoMaskConfig(Config):
    """Parameters of the encryption.

    Attributes:
        scale: embeddings are multiplied by it and rounded.
        degree: of the ring, N.
        plain_bits: the plain modulus is 2 to this power.
    """

    scale: int = Field(SCALE, ge=1)
    degree: int = Field(4096, ge=1024)
    plain_bits: int = Field(20, ge=8, le=24)


class CryptoMask(TemplateProtection):
    """The probe is sent under BFV; the matcher's gallery is in the clear; the client learns whether anyone matches.

    Semi-honest parties. Of the probe the matcher sees a ciphertext, which is what attackers are given: the first 256
    coefficients of each polynomial. They may encrypt faces of their own. Randomness of what they are given is seeded,
    so that records repeat; that of the protocol comes from the operating system.
    """

    version = 1
    stored_in_clear = True
    card = DefenseCard(
        title="CryptoMask",
        plain="Sends the description of a face in encrypted form. The server compares it with its stored faces "
        "without reading it, and the sender learns only whether somebody matches.",
        family="encrypted matching",
        reference="Bai, Zhang, Xin, Liu et al., CryptoMask: Privacy-Preserving Face Recognition, ICICS 2023, "
        "arXiv:2307.12010",
        licence="MIT; tenseal Apache-2.0; mpyc MIT",
        randomness="per_call",
        deviations=(
            "A reconstruction from the abstract; that the new encoding packs coefficients as Cheetah does is assumed.",
            "Scores are compared by mpyc on Shamir shares of three processes, the third one without input: of two, "
            "each share would be the secret. The paper compares between two parties.",
            "The gallery is in the clear with the matcher: who steals its database has plain templates. The face "
            "itself is processed in the clear.",
            "Whole ciphertexts are returned, where the coefficients of the scores would do.",
            "ISO/IEC 30136 leaves encryption out of its scope; ISO/IEC 24745 names what is asked here.",
        ),
    )
    Config = CryptoMaskConfig

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``seed`` uint32 (8,) of the client's keys.

        Raises:
            UserError: scores of such templates do not fit the plain modulus.
        """
        check_modulus(dimension, self.config.scale, 1 << self.config.plain_bits)
        return {"seed": bfv.seeds(numpy_generator(generator), 1)[0], "dimension": np.asarray(dimension)}

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Residues (n, 512) of the ciphertexts of the query."""
        party, draws = self._party(key), numpy_generator(generator)
        rows = quantise(checked(embeddings, party.dimension), self.config.scale)
        fresh = bfv.seeds(draws, len(rows))
        return np.stack(
            [party.residues(party.encrypt(row, seed), RESIDUES) for row, seed in zip(rows, fresh, strict=True)]
        )

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine of the residues: all that is left to who has no secret key."""
        lengths = np.linalg.norm(probes, axis=1) * np.linalg.norm(references, axis=1)
        return np.asarray((probes * references).sum(axis=1) / np.maximum(lengths, 1e-12))

    def score(self, probes: FloatArray, references: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Cosine of the quantised templates, which ``decide`` compares without anyone learning it."""
        dimension = int(part_of(key, "dimension"))
        return quantised_cosine(checked(probes, dimension), checked(references, dimension), self.config.scale)

    def decide(
        self, probes: FloatArray, references: FloatArray, thresholds: FloatArray, key: Key, generator: torch.Generator
    ) -> npt.NDArray[np.bool_]:
        """By the protocol, one template in each gallery; all comparisons in one run of the three processes."""
        party = self._party(key)
        queries, galleries = checked(probes, party.dimension), checked(references, party.dimension)[:, None]
        shares = cryptomask.search(party, self.config.scale, queries, list(galleries))
        return cryptomask.decide(shares, thresholds, party.modulus, self.config.scale).accepted

    def cost(self, dimension: int, gallery: int, key: Key, generator: torch.Generator) -> Cost:
        """Ciphertexts of one query and of a reply for each plaintext of the gallery; then the client's share of the
        comparison, measured on a few templates, in proportion.
        """
        party = self._party(key)
        shares = cryptomask.search(party, self.config.scale, np.eye(1, dimension), [np.eye(1, dimension)])
        nothing = np.zeros((1, COMPARED), dtype=np.int64)
        compared = compare_shares(nothing, nothing, party.modulus)
        up, down = (
            int(bytes_.sum()) * gallery // COMPARED for bytes_ in (compared.sent[CLIENT], compared.sent[:, CLIENT])
        )
        replies = -(-gallery // party.slots)
        return Cost(shares.up + up, shares.down * replies + down, 2 + compared.messages, 4 * dimension * gallery)

    def _party(self, key: Key) -> bfv.Bfv:
        return bfv.Bfv(int(part_of(key, "dimension")), self.config.degree, self.config.plain_bits, part_of(key, "seed"))


DEFENSE = CryptoMask
