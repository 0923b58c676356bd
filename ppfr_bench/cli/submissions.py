"""``ppfr-bench submit``, ``accept`` and ``score``: a defense and its records on their way to a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ppfr_bench import registry
from ppfr_bench.cli import options
from ppfr_bench.cli.options import RESULTS, DatasetRoot, Device, Json, Results, Scheduler, Stages, Workers
from ppfr_bench.console import out, tell
from ppfr_bench.errors import UserError


def submit(
    defense: Annotated[str, typer.Argument(help="The name of a defense in defenses/.")],
    suite: Annotated[str, typer.Option(help="The suite that it was run in.")] = "quick",
    results: Results = RESULTS,
    target: Annotated[
        Path | None, typer.Option("--out", help="The archive; by default NAME-SUITE.zip in this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a defense and its records for a pull request; refused if a cell is missing, failed or from changed code."""
    from ppfr_bench.maintenance.submission import pack
    from ppfr_bench.records.store import ResultStore

    plan = options.resolved(suite, [defense]).plan
    path = target or Path(f"{defense}-{plan.suite}.zip")
    count = pack(defense, plan, ResultStore(results), path)
    tell(
        f"{path}: defenses/{defense}.py and {count} records of {plan.suite}.\n"
        "Attach it to an issue, or add the files to a pull request yourself:\n"
        f"  git add defenses/{defense}.py {results}/{plan.suite} && git commit -m 'Defense {defense}'",
        as_json, archive=str(path), defense=defense, suite=plan.suite, records=count,
    )  # fmt: skip


def accept(
    archive: Annotated[Path, typer.Argument(help="What ppfr-bench submit made.")],
    root: Annotated[Path, typer.Option("--into", help="The root of a checkout.")] = Path(),
    as_json: Json = False,
) -> None:
    """Take a submission into a checkout. Every file is checked, and none is run."""
    from ppfr_bench.maintenance.submission import take

    found = take(archive, root)
    suites = " ".join(sorted({record.suite for record in found.records}))
    tell(
        f"{len(found.records)} records of {found.name} in {suites}. Nothing of it has run.\n"
        f"Read defenses/{found.name}.py. Then:\n"
        f"  ppfr-bench check {found.name}\n"
        f"  ppfr-bench score {found.name} --suite {suites} --confirm\n"
        "Until then its row is shown as claimed by its authors, without a rank.",
        as_json, defense=found.name, suites=suites.split(), records=len(found.records),
    )  # fmt: skip


def score(
    defense: Annotated[list[str], typer.Argument(help="Names of one or more defenses.")],
    suite: Annotated[str, typer.Option(help="The suite that it was run in.")] = "quick",
    results: Results = RESULTS,
    anew: Annotated[bool, typer.Option("--anew", help="Protect and attack again, not from what is cached.")] = False,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Measure a claim on people drawn from your secret seed, and record the result."),
    ] = False,
    sample: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the cells, the same each time.")] = 1.0,
    dataset_root: DatasetRoot = None,
    workers: Workers = None,
    scheduler: Scheduler = "",
    stages: Stages = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure recorded cells again and compare; exit 1 if a number leaves the interval that it is published with."""
    if confirm:
        _confirm(defense, suite, results, workers, scheduler, device, as_json)
        return
    from dataclasses import asdict

    from ppfr_bench.maintenance import submission
    from ppfr_bench.records.store import ResultStore
    from ppfr_bench.runner.execution import Where
    from ppfr_bench.runner.request import narrow_plan

    request, store = options.resolved(suite, defense, device, dataset_root), ResultStore(results)
    labels = {*defense, *(registry.current_name("defense", one) for one in defense)}
    wanted = [cell for cell in request.plan.cells if cell.defense.label in labels]
    cells = [cell for cell in wanted if int(cell.key[:8], 16) < sample * 2**32]
    statuses = store.statuses(request.plan.suite)
    recorded = [cell.key for cell in cells if cell.key in statuses]
    if not recorded:
        raise UserError(f"none of {len(cells)} cells is recorded in {results}", f"ppfr-bench run {suite}")
    where = Where.of(request.plan, workers, scheduler, stages)
    found = submission.score(narrow_plan(request, recorded), store, anew, where)
    if as_json:
        print(json.dumps(asdict(found) | {"not_recorded": len(cells) - len(recorded)}))
    else:
        for line in found.outside:
            out.print(f"[red]✗[/red] {escape(line)}", highlight=False)
        out.print(
            f"{len(recorded)} of {len(cells)} cells are recorded: {found.same} the same to the last digit, "
            f"{found.within} within their intervals, {len(found.outside)} numbers outside.",
            highlight=False,
        )
    if found.outside:
        raise typer.Exit(1)


def _confirm(
    defenses: list[str], suite: str, results: str, workers: int | None, scheduler: str, device: str, as_json: bool
) -> None:
    from datetime import UTC, datetime

    from ppfr_bench.maintenance.confirmation import confirm
    from ppfr_bench.records.store import ResultStore
    from ppfr_bench.runner.execution import Where

    if len(defenses) > 1:
        raise UserError(f"--confirm is of one defense, got {len(defenses)}", "Name one at a time.")
    options.check_writable(results)
    name, night = registry.current_name("defense", defenses[0]), datetime.now(UTC).date()
    found = confirm(name, suite, ResultStore(results), night, lambda plan: Where.of(plan, workers, scheduler), device)
    if as_json:
        print(json.dumps({"rows": found.rows, "findings": [finding.line for finding in found.findings]}))
    else:
        for finding in found.findings:
            out.print(f"[red]✗[/red] {escape(finding.line)}", highlight=False)
        for row, state in sorted(found.rows.items()):
            out.print(f"{escape(row)}: {state}", highlight=False)
    if found.findings:
        raise typer.Exit(1)
