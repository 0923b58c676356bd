"""Inner products under CKKS with rotations, whose sums the client decrypts: what CryptoMask improves on.

A query fills each block of slots, as wide as the next power of two; a plaintext holds one template a block. The product
is added up within the blocks by rotations. The matcher then adds noise to every slot that is not the first of a block,
as the partial sums in them would tell more than the scores.

Source: Cheon et al., ASIACRYPT 2017; Engelsma, Jain and Boddeti, HERS, IEEE T-BIOM 2022; SEAL via ``tenseal.sealapi``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import FloatArray
from ppfr_bench.errors import UserError
from ppfr_bench.template.bfv import residues, sealapi

DEGREE, PRIMES, SCALE = 8192, (60, 40, 60), 2.0**38  # 160 bits of at most 218 for 128 bits of security.
_HIDDEN = 1000.0  # Standard deviation of what hides partial sums, which are below 2.


class Ckks:
    """One client with its keys, and the matcher that has its public and rotation keys.

    Args:
        dimension: of a template, at most 4,096.
        seed: uint32 (8,) for the secret key; None: from the operating system. See ``Bfv`` for how seeds are used.

    Raises:
        Unavailable: tenseal is not installed.
        UserError: a template does not fit.
    """

    def __init__(self, dimension: int, seed: npt.NDArray[Any] | None = None) -> None:
        self.width = 1 << max(0, dimension - 1).bit_length()
        if not 1 <= dimension <= DEGREE // 2:
            raise UserError(f"expected templates of 1 to {DEGREE // 2} numbers, got {dimension}", "Shorten them.")
        self.dimension, self._seal = dimension, sealapi()
        self._secret = self._seal.KeyGenerator(self._new_context(seed)).secret_key()
        self._context = self._new_context(None)
        self._encoder = self._seal.CKKSEncoder(self._context)
        self._evaluator = self._seal.Evaluator(self._context)
        self._decryptor = self._seal.Decryptor(self._context, self._secret)

    @property
    def blocks(self) -> int:
        """Templates in one plaintext."""
        return DEGREE // 2 // self.width

    def encrypt(self, queries: FloatArray, seed: npt.NDArray[Any] | None = None) -> Any:
        """One query (1, d), which fills every block, or one a block, (blocks, d), under the secret key."""
        encryptor = self._encryptor if seed is None else self._seal.Encryptor(self._new_context(seed), self._secret)
        found = self._seal.Ciphertext()
        encryptor.encrypt_symmetric(self._plain(queries), found)
        return found

    def reply(self, query: Any, templates: FloatArray, generator: np.random.Generator) -> Any:
        """The encrypted inner products of a query with at most ``blocks`` templates (g, d)."""
        found = self._seal.Ciphertext()
        self._evaluator.multiply_plain(query, self._plain(templates), found)
        step = self.width // 2
        while step:
            turned = self._seal.Ciphertext()
            self._evaluator.rotate_vector(found, step, self._rotations, turned)
            self._evaluator.add_inplace(found, turned)
            step //= 2
        noise = generator.normal(0, _HIDDEN, (self.blocks, self.width))
        noise[:, 0] = 0
        hidden = self._seal.Plaintext()
        self._encoder.encode(noise.ravel().tolist(), found.parms_id(), found.scale, hidden)
        self._evaluator.add_plain_inplace(found, hidden)
        return found

    def decrypt(self, reply: Any, count: int) -> FloatArray:
        """The scores of the first ``count`` blocks, (count,), to about six decimals."""
        plain = self._seal.Plaintext()
        self._decryptor.decrypt(reply, plain)
        return np.asarray(self._encoder.decode_double(plain)).real[:: self.width][:count]

    def scores(self, probes: FloatArray, references: FloatArray, generator: np.random.Generator) -> FloatArray:
        """Row by row, (m, d) and (m, d) -> (m,): as many pairs in one ciphertext as there are blocks."""
        found = []
        for start in range(0, len(probes), self.blocks):
            part = slice(start, start + self.blocks)
            reply = self.reply(self.encrypt(probes[part]), references[part], generator)
            found.append(self.decrypt(reply, len(probes[part])))
        return np.concatenate(found) if found else np.empty(0)

    def residues(self, ciphertext: Any, count: int) -> FloatArray:
        """As ``Bfv.residues``."""
        return residues(ciphertext, self._first_prime, count)

    def _plain(self, rows: FloatArray) -> Any:
        rows = np.repeat(rows, self.blocks, axis=0) if len(rows) == 1 else rows
        slots = np.zeros((self.blocks, self.width))
        slots[: len(rows), : self.dimension] = rows
        found = self._seal.Plaintext()
        self._encoder.encode(slots.ravel().tolist(), SCALE, found)
        return found

    @cached_property
    def _first_prime(self) -> int:
        return int(self._context.first_context_data().parms().coeff_modulus()[0].value())

    @cached_property
    def _encryptor(self) -> Any:
        return self._seal.Encryptor(self._context, self._secret)

    @cached_property
    def _rotations(self) -> Any:
        # A rotation by so many slots is the automorphism X -> X^(3^steps).
        elements = [pow(3, 1 << power, 2 * DEGREE) for power in range(self.width.bit_length() - 1)]
        found = self._seal.GaloisKeys()
        self._seal.KeyGenerator(self._context, self._secret).create_galois_keys(elements, found)
        return found

    def _new_context(self, seed: npt.NDArray[Any] | None) -> Any:
        seal, parameters = self._seal, self._seal.EncryptionParameters(self._seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, list(PRIMES)))
        if seed is not None:
            parameters.set_random_generator(seal.Blake2xbPRNGFactory([int(word) for word in seed]))
        return seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
