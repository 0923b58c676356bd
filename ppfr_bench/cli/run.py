"""``ppfr-bench run``: every defense of a suite against every attack of that suite."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ppfr_bench.cli import options
from ppfr_bench.cli.options import (
    RESULTS,
    DatasetRoot,
    Device,
    Json,
    Plugins,
    Results,
    Scheduler,
    Settings,
    Stages,
    Sweeps,
    Trust,
    Workers,
)
from ppfr_bench.console import Progress, err, print_plan


class Rerun(StrEnum):
    """Cells that are run although they have a record."""

    failed = "failed"
    all = "all"


def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    defense: Annotated[list[str] | None, typer.Option("--defense", help="Only this one; repeatable.")] = None,
    attack: Annotated[list[str] | None, typer.Option("--attack", help="Only this one; repeatable.")] = None,
    recognizer: Annotated[list[str] | None, typer.Option("--recognizer", help="Only this one; repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Another data set, with its defaults.")] = None,
    dataset_root: DatasetRoot = None,
    plugin: Plugins = None,
    trust: Trust = False,
    precomputed: Annotated[
        list[Path] | None, typer.Option(help="A folder of images protected elsewhere; repeatable.")
    ] = None,
    answers: Annotated[
        list[Path] | None, typer.Option(help="A folder of answers to one defense's releases; repeatable.")
    ] = None,
    settings: Settings = None,
    sweep: Sweeps = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave training copies of measured photographs out.")
    ] = False,
    results: Results = RESULTS,
    workers: Workers = None,
    scheduler: Scheduler = "",
    stages: Stages = "",
    device: Device = "cpu",
    seed: Annotated[
        int | None, typer.Option(min=0, max=options.LARGEST_SEED, help="A seed instead of the suite's.")
    ] = None,
    rerun: Annotated[Rerun | None, typer.Option(help="Run failed cells again, or all cells.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, the size of the graph and an estimate, and stop.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a suite: every defense of it against every attack of it. The same command again does only what is missing."""
    from ppfr_bench.device import select
    from ppfr_bench.records.store import ResultStore
    from ppfr_bench.runner.elsewhere import check_releases
    from ppfr_bench.runner.execution import Where, describe, estimated, execute, missing, unfinished
    from ppfr_bench.runner.request import Asked, resolve

    if not scheduler:
        select(device)
    asked = Asked(
        defenses=tuple(defense or ()), attacks=tuple(attack or ()), recognizers=tuple(recognizer or ()),
        dataset=dataset, dataset_root=dataset_root, settings=tuple(settings or ()), sweeps=tuple(sweep or ()),
        plugins=tuple(plugin or ()), precomputed=tuple(precomputed or ()), answers=tuple(answers or ()),
        drop_duplicates=drop_duplicates, seed=seed, device=device, trust=trust,
    )  # fmt: skip
    request = resolve(suite, asked)
    plan, store, again = request.plan, ResultStore(results), _again(rerun)
    request.tell()
    where = Where.of(plan, workers, scheduler, stages)
    if dry_run:
        pending = missing(plan, store, again)
        print_plan(describe(plan, store), len(pending), estimated(plan, pending, where), as_json)
        return
    options.check_writable(results)
    start = time.monotonic()
    pending = missing(plan, store, again)
    if pending:
        request.audit()
        check_releases(request, where)
    with Progress(len(pending), f"{plan.suite} on {plan.dataset.label}") as progress:
        outcome = execute(plan, store, where=where, rerun=again, report=progress, start=progress.go_by)
    store.write_index()  # Also where nothing was to do: an earlier run may have been killed before this.
    lacking = unfinished(plan, store)
    summary = {
        "suite": plan.suite, "cells": len(plan.cells), "already_recorded": outcome.cached, **dict(outcome.counts),
        "set_aside": outcome.moves.aside.total(), "brought_back": outcome.moves.back,
        "without_record": lacking.without_record, "failed_before": lacking.failed - outcome.failed,
        "seconds": round(time.monotonic() - start, 1), "results": f"{results}/{plan.suite}",
    }  # fmt: skip
    if as_json:
        print(json.dumps(summary))
    else:
        done = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items())) or "nothing to do"
        err.print(f"{plan.suite}: {len(plan.cells)} cells, {outcome.cached} already recorded; {done}; "
                  f"{summary['seconds']} s. Records: {summary['results']}", highlight=False)  # fmt: skip
        for line in lacking.told(outcome.failed):
            err.print(line, highlight=False, markup=False, soft_wrap=True)
    if lacking:
        raise typer.Exit(1)


def _again(rerun: Rerun | None) -> Literal["failed", "all"] | None:
    return None if rerun is None else "all" if rerun is Rerun.all else "failed"
