"""What crosses between the harness and a plug-in in a process of its own: frames, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppfr_bench.sandbox import wire


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_frames_come_out_as_they_went_in() -> None:
    with pair() as (ours, theirs):
        tensors = [torch.rand(2, 3), torch.arange(4), torch.zeros(0, 3, dtype=torch.uint8), torch.tensor(True),
                   torch.rand(3, 2).t().bfloat16(), torch.rand(2).to(torch.complex64).conj()]  # fmt: skip
        wire.send(ours, {"call": "x"}, tensors)
        header, found = wire.receive(theirs, 1000)
        assert header == {"call": "x"}
        for one, two in zip(found, tensors, strict=True):
            assert one.dtype == two.dtype and torch.equal(one, two)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\2[]", b"\0\0\0\2{}", b'\0\0\0\x10{"tensors": 3}  ',
        b'\0\0\0\x15{"tensors": [], "a":N', b"\0\0\0\x20" + b"[" * 32,
        *(b"\0\0\0" + bytes([len(text)]) + text for text in (
            b'{"tensors": [["object", [1]]]}', b'{"tensors": [["uint8", [-1]]]}', b'{"tensors": [["uint8", [true]]]}',
            b'{"tensors": [["uint8", [1.0]]]}', b'{"tensors": [["uint8", [1,1,1,1,1,1,1,1,1]]]}',
            b'{"tensors": [["float64", [126]]]}', b'{"tensors": [[[], [1]]]}', b'{"tensors": [], "a": NaN}',
            b'{"tensors": [["uint8", [1099511627777]]]}', b'{"tensors": [], "a": [-1e999]}',
            rb'{"tensors": [], "a": "\ud800"}', rb'{"tensors": [], "\udfff": 1}')),
    ],
)  # fmt: skip
def test_a_malformed_frame_is_refused_before_it_is_read(content: bytes) -> None:
    with pair() as (ours, theirs):
        ours.sendall(content)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises((wire.MalformedError, wire.EndedError)):
            wire.receive(theirs, 1000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_an_error(content: bytes) -> None:
    with pair() as (ours, theirs):
        ours.sendall(content[:2].rjust(4, b"\0") + content[2:])
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(wire.MalformedError, wire.EndedError):
            wire.receive(theirs, 1000)


def test_what_does_not_come_is_late_or_ended() -> None:
    with pair() as (ours, theirs):
        with pytest.raises(wire.LateError):
            wire.receive(theirs, 1000, time.monotonic() + 0.05)
        with pytest.raises(wire.LateError):
            wire.receive(theirs, 1000, time.monotonic() - 1)
        with pytest.raises(wire.MalformedError, match="cannot cross"):
            wire.send(ours, {}, [torch.eye(2).to_sparse()])
        for value in ("\ud800", float("inf"), float("nan")):
            with pytest.raises(wire.MalformedError, match="no JSON"):
                wire.send(ours, {"value": value})
        ours.close()
        with pytest.raises(wire.EndedError):
            wire.receive(theirs, 1000)
