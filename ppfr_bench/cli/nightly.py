"""``ppfr-bench nightly``: what changed, and whether anything moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ppfr_bench.cli import options
from ppfr_bench.cli.options import RESULTS, Device, Json, Results, Scheduler, Stages, Workers
from ppfr_bench.console import out
from ppfr_bench.errors import UserError


def nightly(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")] = "quick",
    results: Results = RESULTS,
    out_dir: Annotated[Path, typer.Option("--out", help="nights.jsonl, nightly.html and nightly.md go there.")] = Path(
        "leaderboards"
    ),
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the unchanged cells, measured anew.")] = 0.05,
    night: Annotated[str, typer.Option(help="YYYY-MM-DD; today's, in UTC, without.")] = "",
    benchmarks: Annotated[Path | None, typer.Option(help="What pytest --benchmark-json wrote tonight.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = "",
    stages: Stages = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure what changed and a sample of what did not; exit 1 if a number left its interval since last night."""
    from dataclasses import asdict
    from datetime import UTC, date, datetime

    from ppfr_bench.files import write_atomic
    from ppfr_bench.maintenance import nightly as nights
    from ppfr_bench.records.store import ResultStore
    from ppfr_bench.runner.execution import Where
    from ppfr_bench.runner.request import Asked, resolve

    try:
        tonight = date.fromisoformat(night) if night else datetime.now(UTC).date()
    except ValueError as error:
        raise UserError(f"--night {night}: expected YYYY-MM-DD", "For example:  --night 2026-11-23") from error
    request = resolve(suite, Asked(device=device))
    request.tell()
    options.check_writable(results)
    store, history = ResultStore(results), out_dir / "nights.jsonl"
    where = Where.of(request.plan, workers, scheduler, stages)
    result = nights.run_night(request, store, history, tonight, share, benchmarks, where)
    text = nights.summary(result)
    write_atomic(out_dir / "nightly.md", text.encode())
    write_atomic(out_dir / "nightly.html", nights.trend(nights.read_history(history)))
    out.print(json.dumps(asdict(result)) if as_json else text, highlight=False, markup=False, soft_wrap=True)
    if result.findings:
        raise typer.Exit(1)
