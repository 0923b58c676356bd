"""The bootstrap draws of a suite, in one Parquet file: key, measurement, part, and the draws in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ppfr_bench.errors import UserError

Number = TypeVar("Number", np.float32, np.int32)
# Key -> (name, part) -> draws.
Draws = dict[str, dict[tuple[str, str], "np.ndarray[tuple[int], np.dtype[np.float32]]"]]
_HINT = "Restore it from git. Or delete it, and run again what it was of:  rm '{}'"
_LEVEL = 12  # zstd's highest level saves 6% more, and takes six times as long.
_LISTS = pa.list_(pa.float32())
_DIGITS = 5  # Scorers round draws to so many digits, which single precision holds.


def write(draws: Mapping[str, Mapping[tuple[str, str], object]]) -> bytes:
    """The file: the same draws give the same bytes.

    Raises:
        ValueError: a draw of more digits than scorers give, which would not come back as it was.
    """
    rows = [(key, name, part) for key in sorted(draws) for name, part in sorted(draws[key])]
    values = []
    for key, name, part in rows:
        one = draws[key][name, part]
        kept = one if isinstance(one, np.ndarray) else _exact(np.asarray(one, dtype=np.float64), key)
        values.append(kept)
    table = pa.table(
        {
            "key": pa.array([row[0] for row in rows], pa.string()),
            "measurement": pa.array([row[1] for row in rows], pa.string()),
            "part": pa.array([row[2] for row in rows], pa.string()),
            "draws": pa.array(values, _LISTS),
        }
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table, buffer, compression="zstd", compression_level=_LEVEL, use_dictionary=["key", "measurement", "part"]
    )
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def read(content: bytes, where: str) -> Draws:
    """What ``write`` has written.

    Raises:
        UserError: it is no such file.
    """
    try:
        table = pq.ParquetFile(_reader(content)).read(use_threads=False)
        found: Draws = {}
        columns = (table.column(name).to_pylist() for name in ("key", "measurement", "part"))
        lists = table.column("draws").combine_chunks()
        if lists.type != _LISTS or lists.null_count or lists.values.null_count:
            raise ValueError(f"expected {_LISTS} without nulls, got {lists.type}")
        flat, ends = _array(lists.values, np.float32), _array(lists.offsets, np.int32)
        if not np.isfinite(flat).all():
            raise ValueError("a draw is no number")
        for at, (key, name, part) in enumerate(zip(*columns, strict=True)):
            found.setdefault(key, {})[name, part] = flat[ends[at] : ends[at + 1]]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where} holds no draws: {error}", _HINT.format(where)) from error
    return found


def _reader(content: bytes) -> pa.BufferReader:
    """The content in Arrow's own memory.

    A thread of Arrow's that reads from, or lets go of, an object of Python's while the program ends aborts it.
    """
    buffer = pa.allocate_buffer(len(content))
    np.frombuffer(buffer, np.uint8)[:] = np.frombuffer(content, np.uint8)
    return pa.BufferReader(buffer)


def _array(column: pa.Array, kind: type[Number]) -> np.ndarray[tuple[int], np.dtype[Number]]:
    """As ``to_numpy`` does, which loads pandas: 45 MiB for whoever only reads."""
    return np.frombuffer(column.buffers()[1] or b"", kind)[column.offset : column.offset + len(column)]


def count(content: bytes, where: str) -> int:
    """How many numbers a file holds, as it says itself: a small one may hold a great many.

    Raises:
        UserError: it is no such file.
    """
    try:
        found = pq.ParquetFile(_reader(content)).metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{where} holds no draws: {error}", _HINT.format(where)) from error
    groups = (found.row_group(i) for i in range(found.num_row_groups))
    return sum(group.column(i).num_values for group in groups for i in range(found.num_columns))


def keys_of(content: bytes, where: str) -> set[str]:
    """Whose draws a file has.

    Raises:
        UserError: it is no such file.
    """
    try:
        return set(pq.ParquetFile(_reader(content)).read(["key"], use_threads=False).column("key").to_pylist())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(f"{where} holds no draws: {error}", _HINT.format(where)) from error


def check(lists: Mapping[tuple[str, str], Sequence[float]], key: str) -> None:
    """Raises:
    ValueError: a draw of more digits than scorers give.
    """
    for values in lists.values():
        _exact(np.asarray(values, dtype=np.float64), key)


@cache
def number(digits: str) -> float:
    """One object for one number, as there are hundreds of thousands of them."""
    return float(digits)


def numbers(draws: np.ndarray[tuple[int], np.dtype[np.float32]]) -> tuple[float, ...]:
    """Draws as the doubles that they were: of five significant digits each."""
    return tuple(_double(x) for x in draws.tolist())


@cache
def _double(single: float) -> float:
    return number(f"{single:.{_DIGITS}g}")


def _exact(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], key: str
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    kept = values.astype(np.float32)
    if numbers(kept) != tuple(values.tolist()):
        raise ValueError(f"the draws of {key[:12]} have more than {_DIGITS} digits")
    return kept
