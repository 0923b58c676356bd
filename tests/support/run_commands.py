"""Commands as a user types them, and the records that they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import warm_python

from ppfr_bench.records.estimate import column
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

Environment = dict[str, str]


def ppfr_bench(*arguments: object, env: Environment, code: int = 0) -> warm_python.Done:
    """What ``ppfr-bench ARGUMENTS`` gives; it must end with that exit code and without a traceback."""
    done = warm_python.run(["-m", "ppfr_bench.cli", *arguments], env)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def flat(record: Record) -> dict[str, Any]:
    """A record as JSON, its numbers under the names that tidy tables have."""
    numbers = {column(name, part): one for name, found in record.metrics.items() for part, one in found.parts()}
    kept = {name: {"value": one.value, "interval": one.interval, "n": one.n} for name, one in numbers.items()}
    return record.model_dump(mode="json") | {"metrics": kept}


def records(results: Path) -> list[dict[str, Any]]:
    """All records of a folder as JSON; none where there is no folder yet."""
    return [flat(record) for record in ResultStore(results).records()] if ResultStore(results).suites() else []


def few(*more: object) -> tuple[object, ...]:
    """A run of one defense that takes seconds."""
    return ("run", "smoke", "--attack", "visual", "--recognizer", "faceplugin", *more)
