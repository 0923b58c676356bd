"""The matching protocol of CryptoMask, as reconstructed: encrypted query, clear gallery, shared scores, one bit.

1. The client quantises its template and encrypts it under BFV.
2. The matcher multiplies it with its packed gallery and adds an encrypted mask, uniform modulo t, with flooding noise.
3. The client decrypts: it has score + mask, the matcher has the mask. Neither knows the score.
4. Three processes compare them with the threshold (``comparison``), and the client learns whether any template matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import FloatArray
from ppfr_bench.template.bfv import Bfv, serialized_size
from ppfr_bench.template.comparison import Compared, compare_shares
from ppfr_bench.template.quantised import check_modulus, integer_thresholds, quantise

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shares:
    """What the two parties hold after a search: their sum modulo t is the score.

    Attributes:
        client: what it has decrypted, score + mask, int64 (n, g) in [0, t).
        matcher: the mask, int64 (n, g) in [0, t).
        up, down: bytes of the query and of all replies to it, of the first search.
    """

    client: IntArray
    matcher: IntArray
    up: int = 0
    down: int = 0


def search(bfv: Bfv, scale: int, queries: FloatArray, galleries: Sequence[FloatArray],
           generator: np.random.Generator | None = None) -> Shares:  # fmt: skip
    """Shares of the scores of each query (n, d) with its own gallery, n of (g, d).

    Args:
        generator: of the masks; None: from the operating system. The randomness of ciphertexts always is.

    Raises:
        UserError: differences of scores do not fit the plain modulus.
    """
    check_modulus(bfv.dimension, scale, bfv.modulus)
    client, matcher, up, down = [], [], 0, 0
    for at, (query, gallery) in enumerate(zip(queries, galleries, strict=True)):
        encrypted, seen, masks = bfv.encrypt(quantise(query, scale)), [], []
        for templates in bfv.gallery(quantise(gallery, scale)):
            hidden, mask = bfv.mask(generator)
            reply = bfv.reply(encrypted, templates, hidden)
            down += serialized_size(reply) if at == 0 else 0
            seen.append(bfv.decrypt(reply))
            masks.append(mask)
        up = serialized_size(encrypted) if at == 0 else up
        client.append(np.concatenate(seen)[: len(gallery)])
        matcher.append(np.concatenate(masks)[: len(gallery)])
    return Shares(np.asarray(client), np.asarray(matcher), up, down)


def scores_of(shares: Shares, modulus: int, scale: int) -> FloatArray:
    """The scores in cosine that the shares add up to, (n, g): what nobody in the protocol computes."""
    difference = (shares.client - shares.matcher) % modulus
    return np.asarray(np.where(difference >= modulus // 2, difference - modulus, difference) / scale**2)


def decide(shares: Shares, thresholds: FloatArray, modulus: int, scale: int) -> Compared:
    """Whether any score of a row reaches the row's threshold in cosine, (n,), by the three processes."""
    least = integer_thresholds(thresholds, scale)[:, None]
    return compare_shares(shares.client, (shares.matcher + least) % modulus, modulus)
