"""``ppfr-bench nightly``: what changed, and whether anything moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ppfr_bench.cli import options
from ppfr_bench.cli.options import RESULTS, Device, Json, Results, Scheduler, Stages, Workers
from ppfr_bench.console import out
from ppfr_bench.errors import UserError

if TYPE_CHECKING:
    from ppfr_bench.maintenance.nightly import Night


def nightly(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")] = "quick",
    results: Results = RESULTS,
    out_dir: Annotated[Path, typer.Option("--out", help="nights.jsonl, nightly.html and nightly.md go there.")] = Path(
        "leaderboards"
    ),
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the unchanged cells that are measured again.")
    ] = 0.05,
    night: Annotated[str, typer.Option(help="YYYY-MM-DD; by default today, in UTC.")] = "",
    benchmarks: Annotated[
        Path | None, typer.Option(help="The file that pytest --benchmark-json wrote tonight.")
    ] = None,
    take: Annotated[
        Path | None,
        typer.Option("--take", help="Measure nothing: take the results of another machine from this folder."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = "",
    stages: Stages = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure what changed and a sample of what did not; exit 1 if a number left its interval since last night."""
    from datetime import UTC, date, datetime

    from ppfr_bench.maintenance import nightly as nights
    from ppfr_bench.records.store import ResultStore
    from ppfr_bench.runner.execution import Where
    from ppfr_bench.runner.request import Asked, resolve
    from ppfr_bench.suites import load_suite

    try:
        tonight = date.fromisoformat(night) if night else datetime.now(UTC).date()
    except ValueError as error:
        raise UserError(f"--night {night}: expected YYYY-MM-DD", "For example:  --night 2026-11-23") from error
    options.check_writable(results)
    store, history = ResultStore(results), out_dir / "nights.jsonl"
    if take is not None:
        from ppfr_bench.maintenance.taking import take_night

        taken = take_night(take, suite, store, history, Path(), tonight)
        _publish(taken.night, history, out_dir, as_json)
        return
    listed = load_suite(suite)
    more = nights.accepted(listed, store)
    chosen = (*(entry.label for entry in listed.defense), *more) if more else ()
    request = resolve(suite, Asked(defenses=chosen, device=device))
    request.tell()
    where = Where.of(request.plan, workers, scheduler, stages)
    result = nights.run_night(request, store, history, tonight, share, benchmarks, where)
    _publish(result, history, out_dir, as_json)


def _publish(result: Night, history: Path, out_dir: Path, as_json: bool) -> None:
    """Write the summary and the trend, and print the night; exit 1 if something moved."""
    from dataclasses import asdict

    from ppfr_bench.files import write_atomic
    from ppfr_bench.maintenance import nightly as nights

    text = nights.summary(result)
    write_atomic(out_dir / "nightly.md", text.encode())
    write_atomic(out_dir / "nightly.html", nights.trend(nights.read_history(history)))
    nights.begun_file(history, result.suite).unlink(missing_ok=True)  # All is written: the night is at its end.
    out.print(json.dumps(asdict(result)) if as_json else text, highlight=False, markup=False, soft_wrap=True)
    if result.findings:
        raise typer.Exit(1)
