"""Compares scores that two parties share with thresholds, in processes of their own, and opens one bit to the client.

``mpyc`` computes on Shamir shares of degree (m - 1) // 2 for m parties. Of two parties the degree is 0: each share is
the secret. So a third process helps, which has no input and sees shares alone. No one of the three learns anything
beside the client's bit; two of them together learn all.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.template.comparison_party import CLIENT, HELPER, MATCHER

IntArray = npt.NDArray[np.int64]
PARTIES = (CLIENT, MATCHER, HELPER)
SECONDS = 900.0  # After so long without an end the processes are stopped.


@dataclass(frozen=True)
class Compared:
    """What a comparison gave.

    Attributes:
        accepted: bool (n,).
        sent: int64 (3, 3), bytes from each party to each.
        messages: the most that one party has sent to another: no more of them wait for one another.
    """

    accepted: npt.NDArray[np.bool_]
    sent: IntArray
    messages: int


def compare_shares(client: IntArray, matcher: IntArray, modulus: int, seconds: float = SECONDS) -> Compared:
    """Whether any score of a row reaches its threshold.

    Args:
        client: shares in [0, t), (n, g): score + mask.
        matcher: shares in [0, t), (n, g): mask + threshold.
        modulus: t, a power of two, more than twice as large as any score less its threshold.
        seconds: that it may take.

    Raises:
        Unavailable: mpyc is not installed.
        UserError: shares of two shapes or out of range, or a process failed.
    """
    if importlib.util.find_spec("mpyc") is None:
        raise Unavailable("the comparison needs mpyc", "pip install 'ppfr-bench[template]'")
    _check(client, matcher, modulus)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        ports = _free_ports(len(PARTIES))
        peers = [part for port in ports for part in ("-P", f"127.0.0.1:{port}")]
        inputs, processes = {CLIENT: client, MATCHER: matcher, HELPER: np.zeros_like(client)}, []
        for party in PARTIES:
            np.savez(Path(folder) / f"in{party}.npz", shares=inputs[party], modulus=modulus)
            processes.append(running.enter_context(_started(Path(folder), party, peers)))
            running.callback(processes[-1].kill)  # Of one that has ended it does nothing.
        for party, process in zip(PARTIES, processes, strict=True):
            try:
                _, said = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise UserError(
                    f"a comparison of {client.size} scores has not ended after {seconds:g} s",
                    "Compare fewer at a time.",
                ) from None
            if process.returncode:
                raise UserError(f"party {party} of the comparison failed: {said.decode(errors='replace')[-400:]}",
                                "Run it again; if it fails again, see ppfr_bench/template/comparison.py.")  # fmt: skip
        with np.load(Path(folder) / f"out{CLIENT}.npz") as found:
            accepted = found["accepted"]
        sent, messages = [], 0
        for party in PARTIES:
            with np.load(Path(folder) / f"out{party}.npz") as found:
                sent.append(found["sent"])
                messages = max(messages, int(found["messages"].max()))
    return Compared(accepted, np.asarray(sent), messages)


def _started(folder: Path, party: int, peers: list[str]) -> subprocess.Popen[bytes]:
    module = "ppfr_bench.template.comparison_party"
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    command = [sys.executable, "-m", module, str(folder / f"in{party}.npz"), str(folder / f"out{party}.npz"),
               *peers, "-I", str(party), "--no-log"]  # fmt: skip
    # One thread each: three processes that share two cores gain nothing by more.
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _check(client: IntArray, matcher: IntArray, modulus: int) -> None:
    if modulus < 4 or modulus & (modulus - 1):
        raise UserError(f"expected a modulus that is a power of two, got {modulus}", "Use 2 ** plain_bits.")
    if client.ndim != 2 or client.shape != matcher.shape or not client.size:
        raise UserError(
            f"expected shares (n, g) of both parties, got {client.shape} and {matcher.shape}",
            "Give one row a query and one column a template of the gallery.",
        )
    low, high = min(client.min(), matcher.min()), max(client.max(), matcher.max())
    if low < 0 or high >= modulus:
        raise UserError(f"expected shares in [0, {modulus}), got [{low}, {high}]", "Take them modulo the modulus.")
