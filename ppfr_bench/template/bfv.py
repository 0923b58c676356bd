"""Inner products under BFV by packing coefficients: no rotation and no relinearisation.

In Z_t[X] / (X^N + 1) the query is Q = sum_i q_i X^i and N / d templates are P = sum_j sum_i t_ji X^(jd + d - 1 - i).
The coefficient of Q P at jd + d - 1 is the inner product of q with template j: no term of another template falls there,
and what wraps around X^N, with its sign turned, falls on places below d - 1.

Source: the packing is that of Cheetah (Huang et al., USENIX Security 2022); SEAL by way of ``tenseal.sealapi``.
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import Unavailable, UserError

IntArray = npt.NDArray[np.int64]
SEEDS = 8  # Words of 32 bits in a seed of SEAL.
FLOODING_TERMS = 256  # Of the random polynomial that a fresh encryption of 0 is multiplied with.


def sealapi() -> Any:
    """The module ``tenseal.sealapi``.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        import tenseal.sealapi as found
    except ImportError as error:
        raise Unavailable("encrypted templates need tenseal", "pip install 'ppfr-bench[template]'") from error
    return found


class Bfv:
    """One client with its keys, and the matcher that has the public one.

    SEAL starts its generator anew at every encryption of a context. Two encryptions under one seed would share their
    randomness, and their difference would be that of the messages. So a seed makes one context, for one encryption; an
    encryption without a seed draws from the operating system.

    Args:
        dimension: of a template, at most ``degree``.
        degree: N, a power of two for which SEAL has parameters of 128 bits.
        plain_bits: the plain modulus is 2 to this power.
        seed: uint32 (8,) for the secret key; None: from the operating system.

    Raises:
        Unavailable: tenseal is not installed.
        UserError: a template does not fit.
    """

    def __init__(self, dimension: int, degree: int, plain_bits: int, seed: npt.NDArray[Any] | None = None) -> None:
        if not 1 <= dimension <= degree:
            raise UserError(
                f"expected templates of 1 to {degree} numbers, got {dimension}", "Raise the parameter `degree`."
            )
        self.dimension, self.degree, self.modulus = dimension, degree, 1 << plain_bits
        self._seal = sealapi()
        self._secret = self._seal.KeyGenerator(self._new_context(seed)).secret_key()
        self._context = self._new_context(None)
        self._public = self._seal.PublicKey()
        self._seal.KeyGenerator(self._context, self._secret).create_public_key(self._public)
        self._evaluator = self._seal.Evaluator(self._context)
        self._decryptor = self._seal.Decryptor(self._context, self._secret)

    @property
    def slots(self) -> int:
        """Templates in one plaintext."""
        return self.degree // self.dimension

    # The client ----------------------------------------------------------------------------------------------------

    def encrypt(self, query: IntArray, seed: npt.NDArray[Any] | None = None) -> Any:
        """The query, integers (d,), under the secret key."""
        encryptor = self._encryptor if seed is None else self._seal.Encryptor(self._new_context(seed), self._secret)
        found = self._seal.Ciphertext()
        encryptor.encrypt_symmetric(self._polynomial(query), found)
        return found

    def decrypt(self, reply: Any) -> IntArray:
        """The coefficients at the places of the slots, int64 (slots,) in [0, t)."""
        plain = self._seal.Plaintext()
        self._decryptor.decrypt(reply, plain)
        count, step = plain.coeff_count(), self.dimension
        places = range(step - 1, self.slots * step, step)
        return np.asarray([plain[place] if place < count else 0 for place in places], dtype=np.int64)

    def noise_budget(self, ciphertext: Any) -> int:
        """Bits of noise that a ciphertext may still gain before it decrypts wrongly."""
        return int(self._decryptor.invariant_noise_budget(ciphertext))

    # The matcher ---------------------------------------------------------------------------------------------------

    def gallery(self, templates: IntArray) -> list[Any]:
        """Integers (g, d) -> plaintexts of ``slots`` templates each, the last one filled with zeros."""
        packed = np.zeros((-(-len(templates) // self.slots), self.degree), dtype=np.int64)
        for start in range(0, len(templates), self.slots):
            rows = templates[start : start + self.slots, ::-1]
            packed[start // self.slots, : rows.size] = rows.ravel()
        return [self._polynomial(row) for row in packed]

    def mask(self, generator: np.random.Generator | None = None) -> tuple[Any, IntArray]:
        """What hides one reply, which does not depend on the query and can be made ahead; and its part in each slot.

        It encrypts a polynomial that is uniform over Z_t, so that also the places between the slots are hidden, and
        floods the noise: an encryption of 0 times a random polynomial has noise of more than 2^12 times the product's.

        Args:
            generator: None: from the operating system.
        """
        draws = np.random.default_rng() if generator is None else generator
        uniform = draws.integers(0, self.modulus, self.degree)
        flood = self._seal.Ciphertext()
        self._encryptor.encrypt_zero(flood)
        terms = np.maximum(draws.integers(0, self.modulus, min(FLOODING_TERMS, self.degree)), 1)
        self._evaluator.multiply_plain_inplace(flood, self._polynomial(terms))
        self._evaluator.add_plain_inplace(flood, self._polynomial(uniform))
        return flood, uniform[self.dimension - 1 : self.slots * self.dimension : self.dimension]

    def reply(self, query: Any, templates: Any, mask: Any) -> Any:
        """The masked inner products of an encrypted query with one plaintext of the gallery, under fewer primes."""
        found = self._seal.Ciphertext()
        self._evaluator.multiply_plain(query, templates, found)
        self._evaluator.add_inplace(found, mask)
        self._evaluator.mod_switch_to_next_inplace(found)
        return found

    # What others see -----------------------------------------------------------------------------------------------

    def residues(self, ciphertext: Any, count: int) -> npt.NDArray[np.float64]:
        """The first ``count`` coefficients of each polynomial of a ciphertext modulo its first prime, (2 count,).

        They are shifted and scaled to [-1/2, 1/2).
        """
        return residues(ciphertext, self._first_prime, count)

    @cached_property
    def _first_prime(self) -> int:
        return int(self._context.first_context_data().parms().coeff_modulus()[0].value())

    @cached_property
    def _encryptor(self) -> Any:
        return self._seal.Encryptor(self._context, self._public, self._secret)

    def _new_context(self, seed: npt.NDArray[Any] | None) -> Any:
        seal, parameters = self._seal, self._seal.EncryptionParameters(self._seal.SCHEME_TYPE.BFV)
        parameters.set_poly_modulus_degree(self.degree)
        parameters.set_coeff_modulus(seal.CoeffModulus.BFVDefault(self.degree, seal.SEC_LEVEL_TYPE.TC128))
        parameters.set_plain_modulus(self.modulus)
        if seed is not None:
            parameters.set_random_generator(seal.Blake2xbPRNGFactory([int(word) for word in seed]))
        return seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)

    def _polynomial(self, coefficients: IntArray) -> Any:
        """Integers in (-t, t), one a power of X, as a plaintext modulo t."""
        residue = np.asarray(coefficients, dtype=np.int64) % self.modulus
        powers = np.flatnonzero(residue)[::-1]
        text = " + ".join(f"{value:X}x^{power}" for power, value in zip(powers.tolist(), residue[powers].tolist(),
                                                                     strict=True))  # fmt: skip
        return self._seal.Plaintext(text or "0")


def residues(ciphertext: Any, prime: int, count: int) -> npt.NDArray[np.float64]:
    """As ``Bfv.residues``, of a ciphertext of any scheme."""
    numbers, degree = ciphertext.dyn_array(), ciphertext.poly_modulus_degree()
    step = ciphertext.coeff_modulus_size() * degree
    found = [numbers[poly * step + at] for poly in range(ciphertext.size()) for at in range(min(count, degree))]
    return np.asarray(found, dtype=np.float64) / prime - 0.5


def signed(shares: IntArray, modulus: int) -> IntArray:
    """Residues in [0, t) as integers in [-t/2, t/2)."""
    return np.where(shares >= modulus // 2, shares - modulus, shares)


def serialized_size(ciphertext: Any) -> int:
    """Bytes of a ciphertext as SEAL writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ciphertext"
        ciphertext.save(str(path))
        return path.stat().st_size


def seeds(generator: np.random.Generator, count: int) -> npt.NDArray[np.uint32]:
    """Seeds of SEAL, (count, 8)."""
    return generator.integers(0, 2**32, (count, SEEDS), dtype=np.uint32)
