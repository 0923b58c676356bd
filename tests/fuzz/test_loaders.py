"""Every loader meets inputs that somebody broke: it says what is wrong, or takes exactly what is written.

The same inputs come every time: the seed of each is its number. ``PPFR_BENCH_FUZZ_SECONDS`` asks for so many seconds
a loader instead of a fixed number of inputs, and ``PPFR_BENCH_FUZZ_SEED`` for others; see ``make fuzz``.
"""

from __future__ import annotations

import os
import time
import traceback
import warnings
from pathlib import Path
from random import Random

import pytest
from broken_inputs import LOADERS, Loader

from ppfr_bench.errors import UserError

SECONDS = float(os.environ.get("PPFR_BENCH_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("PPFR_BENCH_FUZZ_SEED", "0"))
INPUTS = 250  # Of each loader, unless it says otherwise: all loaders together take less than a minute.
LONG = 10.0  # Seconds that no small input may take.
MOST = 5  # Faults that are told of one loader.


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_what_is_broken_is_refused_or_read_as_it_is_written(loader: Loader, tmp_path: Path) -> None:
    prepared = loader.prepare(tmp_path)
    for content in prepared.seeds:
        prepared.load(content)  # What is whole is taken: else nothing here would say anything.
    end, number, taken, faults = time.monotonic() + SECONDS, 0, 0, dict[str, str]()
    while (time.monotonic() < end) if SECONDS else (number < (loader.inputs or INPUTS)):
        draws = Random(f"{loader.name} {SEED} {number}")
        number += 1
        content = draws.choice(loader.mutations)(draws.choice(prepared.seeds), draws)
        start = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                prepared.load(content)
            taken += 1
        except UserError as refused:
            assert refused.message, content
        except Exception as error:  # The finding of a fuzzer: a traceback, or something wrongly taken.
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno} {type(error).__name__}: {str(error)[:300]}"
            faults.setdefault(
                f"{Path(last.filename).name}:{last.lineno}", f"input {number - 1}: {place}\n  {content[:600]!r}"
            )
        assert time.monotonic() - start < LONG, content[:600]
        if len(faults) >= MOST:
            break
    assert not faults, f"{loader.name}, {number} inputs of which {taken} were taken\n" + "\n".join(faults.values())
    assert taken < number, "nothing was refused: the inputs are not broken"


def test_make_fuzz_shares_its_hour_among_all_loaders() -> None:
    makefile = Path(__file__).parents[2] / "Makefile"
    if not makefile.is_file():
        pytest.skip("no checkout")
    assert f"LOADERS := {len(LOADERS)}\n" in makefile.read_text(encoding="utf-8")
