"""CKKS matching: an encrypted query, and scores that the client decrypts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import DefenseCard, FloatArray
from ppfr_bench.template.api import Cost, Key, TemplateProtection, checked, numpy_generator, part_of
from ppfr_bench.template.bfv import seeds, serialized_size
from ppfr_bench.template.ckks import Ckks

RESIDUES = 256  # Of each polynomial of a ciphertext, what attackers are given.


class CkksCosine(TemplateProtection):
    """The probe is sent under CKKS; the matcher's gallery is in the clear; the client decrypts every score.

    Of the probe the matcher sees a ciphertext, which is what attackers are given: the first 256 numbers of each
    polynomial. Who asks learns scores, and d of them about one template give that template away.
    """

    version = 1
    reveals_scores = True
    stored_in_clear = True
    card = DefenseCard(
        title="CKKS cosine",
        plain="Sends the description of a face in encrypted form. The server compares it with its stored faces "
        "without decrypting it, and only the sender can read the similarity scores.",
        family="encrypted matching",
        reference="Engelsma, Jain and Boddeti, HERS: Homomorphically Encrypted Representation Search, IEEE T-BIOM 2022",
        licence="MIT; tenseal Apache-2.0",
        randomness="per_call",
        deviations=(
            "The plain way with rotations and a clear gallery; HERS encrypts the gallery and reduces dimensions first.",
            "Who steals the matcher's database has plain templates. The face itself is processed in the clear.",
            "ISO/IEC 30136 leaves encryption out of its scope; ISO/IEC 24745 names what is asked here.",
        ),
    )

    def new_key(self, dimension: int, generator: torch.Generator) -> Key:
        """``seed`` uint32 (8,) of the client's key."""
        return {"seed": seeds(numpy_generator(generator), 1)[0], "dimension": np.asarray(dimension)}

    def protect(self, embeddings: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Residues (n, 512) of the ciphertexts of the query."""
        party = self._party(key)
        rows = checked(embeddings, party.dimension)
        fresh = seeds(numpy_generator(generator), len(rows))
        return np.stack(
            [party.residues(party.encrypt(row[None], seed), RESIDUES) for row, seed in zip(rows, fresh, strict=True)]
        )

    def compare(self, probes: FloatArray, references: FloatArray) -> FloatArray:
        """Cosine of the residues: all that is left to who has no secret key."""
        lengths = np.linalg.norm(probes, axis=1) * np.linalg.norm(references, axis=1)
        return np.asarray((probes * references).sum(axis=1) / np.maximum(lengths, 1e-12))

    def score(self, probes: FloatArray, references: FloatArray, key: Key, generator: torch.Generator) -> FloatArray:
        """Cosine in [-1, 1], which the protocol gives to about eight decimals."""
        dimension = int(part_of(key, "dimension"))
        return np.asarray((checked(probes, dimension) * checked(references, dimension)).sum(axis=1))

    def decide(
        self, probes: FloatArray, references: FloatArray, thresholds: FloatArray, key: Key, generator: torch.Generator
    ) -> npt.NDArray[np.bool_]:
        """By the protocol, as many pairs in one ciphertext as there are blocks of slots."""
        party = self._party(key)
        left, right = checked(probes, party.dimension), checked(references, party.dimension)
        return np.asarray(party.scores(left, right, numpy_generator(generator)) >= thresholds)

    def cost(self, dimension: int, gallery: int, key: Key, generator: torch.Generator) -> Cost:
        """One query, and a reply for each plaintext of the gallery."""
        party, row = self._party(key), np.eye(1, dimension)
        query = party.encrypt(row)
        reply = party.reply(query, row, numpy_generator(generator))
        replies = -(-gallery // party.blocks)
        return Cost(serialized_size(query), serialized_size(reply) * replies, 1, 4 * dimension * gallery)

    def _party(self, key: Key) -> Ckks:
        return Ckks(int(part_of(key, "dimension")), part_of(key, "seed"))


DEFENSE = CkksCosine
