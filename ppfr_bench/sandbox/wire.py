"""What crosses the border between the harness and the process of a plug-in: JSON and tensors, never pickles.

A frame is the length of its header (4 bytes, big-endian), the header (a JSON object), and the bytes of the tensors
that its ``tensors`` names by type and shape. Sizes are compared with what is allowed before anything is read.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import torch

HEADER_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")
_DIMENSIONS = 8
_DTYPES = {
    name: getattr(torch, name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
                 "complex64", "complex128")
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class MalformedError(Exception):
    """Bytes that are no frame, or a frame that is larger than allowed."""


class EndedError(Exception):
    """Nobody is at the other end."""


class LateError(Exception):
    """The time allowed is over."""


def send(
    sock: socket.socket, header: dict[str, Any], tensors: Sequence[torch.Tensor] = (), deadline: float | None = None
) -> None:
    """Write one frame.

    Args:
        deadline: of ``time.monotonic()``; None waits for ever.

    Raises:
        MalformedError: a tensor of a type that does not cross, or a header that is too large.
        EndedError, LateError: as they say.
    """
    parts: list[bytes | memoryview] = []
    described = []
    for tensor in tensors:
        if tensor.dtype not in _NAMES or tensor.layout != torch.strided:
            raise MalformedError(f"a tensor of type {tensor.dtype}, layout {tensor.layout} cannot cross")
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        described.append([_NAMES[plain.dtype], list(plain.shape)])
        if plain.numel():
            parts.append(plain.reshape(-1).view(torch.uint8).numpy().data)
    text = _written(header | {"tensors": described})
    if len(text) > HEADER_BYTES:
        raise MalformedError(f"a header of {len(text)} bytes, at most {HEADER_BYTES} cross")
    try:
        for part in (_LENGTH.pack(len(text)) + text, *parts):
            sock.settimeout(_left(deadline))
            sock.sendall(part)
    except TimeoutError:
        raise LateError from None
    except OSError as error:
        raise EndedError from error


def receive(
    sock: socket.socket, most_bytes: int, deadline: float | None = None
) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """Read one frame.

    Args:
        most_bytes: that its tensors may have in all.
        deadline: of ``time.monotonic()``; None waits for ever.

    Raises:
        MalformedError: it is none, or is larger.
        EndedError, LateError: as they say.
    """
    try:
        (length,) = _LENGTH.unpack(_read(sock, _LENGTH.size, deadline))
        if not 2 <= length <= HEADER_BYTES:
            raise MalformedError(f"a header of {length} bytes, at most {HEADER_BYTES} are taken")
        header, shapes = _parsed(_read(sock, length, deadline), most_bytes)
        return header, [_tensor(sock, dtype, shape, deadline) for dtype, shape in shapes]
    except TimeoutError:
        raise LateError from None
    except OSError as error:
        raise EndedError from error


def _parsed(text: bytearray, most_bytes: int) -> tuple[dict[str, Any], list[tuple[torch.dtype, list[int]]]]:
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"a header that is no JSON: {type(error).__name__}") from None
    _written(header)
    described = header.pop("tensors", None) if isinstance(header, dict) else None
    if not isinstance(described, list):
        raise MalformedError("a header that is no object, or names no tensors")
    shapes, total = [], 0
    for one in described:
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and one[0] in _DTYPES):
            raise MalformedError("a tensor without a known type")
        dtype, shape = _DTYPES[one[0]], one[1]
        if not (isinstance(shape, list) and len(shape) <= _DIMENSIONS and all(map(_is_size, shape))):
            raise MalformedError("a tensor whose shape is no list of sizes")
        total += math.prod(shape) * dtype.itemsize
        shapes.append((dtype, shape))
    if total > most_bytes:
        raise MalformedError(f"tensors of {total} bytes, at most {most_bytes} are taken")
    return header, shapes


def _written(header: Any) -> bytes:
    """A header as it is sent; what could not be sent is not taken either, for the harness is to write it in records.

    Raises:
        MalformedError: it holds half a character, NaN or an infinite number.
    """
    try:
        return json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"a header that is no JSON: {str(error)[:100]}") from None


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 40


def _tensor(sock: socket.socket, dtype: torch.dtype, shape: list[int], deadline: float | None) -> torch.Tensor:
    size = math.prod(shape) * dtype.itemsize
    if size == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(_read(sock, size, deadline), dtype=torch.uint8).view(dtype).reshape(shape)


def _read(sock: socket.socket, size: int, deadline: float | None) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        sock.settimeout(_left(deadline))
        got = sock.recv_into(view[done:])
        if got == 0:
            raise EndedError
        done += got
    return buffer


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
