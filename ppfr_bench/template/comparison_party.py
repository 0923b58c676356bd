"""One of the three processes that compare shared scores with thresholds: the client, the matcher or the helper.

    python -m ppfr_bench.template.comparison_party INPUT.npz OUTPUT.npz -P HOST:PORT -P HOST:PORT -P HOST:PORT -I 0

``mpyc`` reads the parties and which of them this is from the command line. The input of the client and of the matcher
is ``shares`` (n, g), that of the helper has their shape alone. The client's output is ``accepted`` (n,); every party
notes what it ``sent``, and in how many ``messages``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

CLIENT, MATCHER, HELPER = range(3)
CHUNK = 20_000  # Comparisons at a time.


async def compare(mpc: Any, shares: Any, modulus: int) -> Any:
    """Whether any score of a row reaches its threshold, (n,), which the client learns and nobody else.

    A score less its threshold is u = client - matcher mod t, and t is twice as large as any of them: it is reached
    where u is in [0, t/2). Let d = client - matcher in (-t, t). Then [u < t/2] = [d < t/2] - [d < 0] + [d < -t/2].
    """
    secret = mpc.SecInt(modulus.bit_length() + 1)
    rows, columns = shares.shape
    half, found = modulus // 2, []
    for start in range(0, rows, step := max(1, CHUNK // columns)):
        part, total = shares[start : start + step], None
        for left in range(0, columns, CHUNK):
            block = part[:, left : left + CHUNK]
            mine = secret.array(block.ravel().astype(object))
            d = mpc.input(mine, senders=CLIENT) - mpc.input(mine, senders=MATCHER)
            bits = mpc.np_less(d, half) - mpc.np_less(d, 0) + mpc.np_less(d, -half)
            counted = mpc.np_sum(mpc.np_reshape(bits, block.shape), axis=1)
            total = counted if total is None else total + counted
        if columns > 1:
            total = 1 - mpc.np_less(total, 1)
        opened = await mpc.output(total, receivers=[CLIENT])
        if mpc.pid == CLIENT:
            found.append([int(bit) for bit in opened])
    return np.concatenate(found).astype(bool) if found else None


async def main(source: str, target: str) -> None:
    """Read this party's input, run, and write its output."""
    from mpyc.runtime import mpc

    with np.load(source) as given:
        shares, modulus = given["shares"], int(given["modulus"])
    if mpc.threshold < 1:
        raise SystemExit("the shares would be the secrets: three parties are needed")
    messages = _counted(len(mpc.parties))
    await mpc.start()
    accepted = await compare(mpc, shares, modulus)
    sent = [0 if peer.protocol is None or peer.pid == mpc.pid else peer.protocol.nbytes_sent for peer in mpc.parties]
    await mpc.shutdown()
    np.savez(
        target, sent=np.asarray(sent, dtype=np.int64), messages=messages,
        accepted=np.zeros(0) if accepted is None else accepted,
    )  # fmt: skip


def _counted(parties: int) -> Any:
    """Messages to each party from now on, int64 (parties,): at most so many wait for one another."""
    from mpyc.asyncoro import MessageExchanger

    counts: Any = np.zeros(parties, dtype=np.int64)
    send: Any = MessageExchanger.send

    def counting(self: Any, pc: Any, payload: Any) -> None:
        counts[self.peer_pid] += 1
        send(self, pc, payload)

    setattr(MessageExchanger, "send", counting)  # noqa: B010
    return counts


if __name__ == "__main__":
    from mpyc.runtime import mpc as runtime

    runtime.run(main(*sys.argv[1:3]))
