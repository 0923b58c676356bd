"""The command line: thin, every error one message, every listing also as JSON."""

from __future__ import annotations

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ppfr_bench import __version__, cli_process, options, registry
from ppfr_bench.cli_assets import assets_app
from ppfr_bench.cli_data import data_app, protect
from ppfr_bench.cli_recognizers import check_recognizer, list_recognizers
from ppfr_bench.cli_train import train
from ppfr_bench.console import Progress, err, out, print_plan, tell
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.options import Json

app = typer.Typer(
    name="ppfr-bench", cls=cli_process.Commands,
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="The benchmark that tells whether a privacy-preserving face recognition method is private.",
)  # fmt: skip
app.add_typer(assets_app, name="assets")
app.command()(train)
app.add_typer(data_app, name="data")
app.command()(protect)

Results = Annotated[Path, typer.Option("--results", help="Folder of the records.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A plug-in file outside the package; repeatable.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="path=value, e.g. attack.unet.steps=300; repeatable.")
]
Sweeps = Annotated[
    list[str] | None,
    typer.Option("--sweep", help="One entry a value, e.g. defense.pixelate.block=4,8,14; repeatable."),
]


class What(StrEnum):
    defenses = "defenses"
    attacks = "attacks"
    recognizers = "recognizers"
    datasets = "datasets"
    metrics = "metrics"
    suites = "suites"
    assets = "assets"


class Kind(StrEnum):
    defense = "defense"
    attack = "attack"


class Rerun(StrEnum):
    failed = "failed"
    all = "all"


def names(what: What) -> list[str]:
    """All names of one kind, without importing what they name."""
    if what in (What.defenses, What.attacks):
        return registry.names("defense" if what is What.defenses else "attack")
    if what is What.recognizers:
        from ppfr_bench.recognizers import recognizer_names

        return recognizer_names()
    if what is What.datasets:
        from ppfr_bench.datasets import dataset_names

        return dataset_names()
    if what is What.metrics:
        from ppfr_bench.metrics import METRICS

        return sorted(METRICS)
    if what is What.suites:
        from ppfr_bench.suites import suite_names

        return suite_names()
    from ppfr_bench.assets import MANIFEST

    return sorted(MANIFEST)


def _version(asked: bool) -> None:
    if asked:
        print(f"ppfr-bench {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """The benchmark that tells whether a privacy-preserving face recognition method is private."""


@app.command("list")
def list_(what: Annotated[What | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """What there is: defenses, attacks, recognizers, data sets, metrics, suites, assets."""
    if what is What.recognizers:
        return list_recognizers(as_json)
    found = {kind.value: names(kind) for kind in ([what] if what else What)}
    if as_json:
        print(json.dumps(found[what.value] if what else found, indent=1))
        return
    for kind, members in found.items():
        out.print(f"[bold]{kind}[/bold]" if what is None else "", end="\n" if what is None else "")
        for member in members:
            out.print(f"  {member}" if what is None else member, highlight=False)


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    defense: Annotated[list[str] | None, typer.Option("--defense", help="Only this one; repeatable.")] = None,
    attack: Annotated[list[str] | None, typer.Option("--attack", help="Only this one; repeatable.")] = None,
    recognizer: Annotated[list[str] | None, typer.Option("--recognizer", help="Only this one; repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Another data set, with its defaults.")] = None,
    dataset_root: Annotated[Path | None, typer.Option("--dataset-root", help="Where the data set lies.")] = None,
    plugin: Plugins = None,
    precomputed: Annotated[
        list[Path] | None, typer.Option(help="A folder of images protected elsewhere; repeatable.")
    ] = None,
    settings: Settings = None,
    sweep: Sweeps = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave training copies of measured photographs out.")
    ] = False,
    results: Results = Path("results"),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    device: Annotated[str, typer.Option(help="cpu; a GPU comes with a later version.")] = "cpu",
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the suite's.")] = None,
    rerun: Annotated[Rerun | None, typer.Option(help="Run cells again that failed, or all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells, what is recorded, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run a suite: every defense against every attack. The same command again does only what is missing."""
    from ppfr_bench.recognizers import recognizer_component
    from ppfr_bench.results import ResultStore
    from ppfr_bench.runner.execute import describe, execute, missing
    from ppfr_bench.runner.lab import Lab
    from ppfr_bench.runner.plan import make_plan, open_dataset
    from ppfr_bench.suites import load_suite

    if device != "cpu":
        raise UserError(f"--device {device}: this version measures on the CPU", "Leave --device out.")
    plugins = tuple(path.resolve() for path in plugin or ())
    added = [registry.add_plugin(path) for path in plugins]
    overrides = tuple(settings or ()) + (() if seed is None else (f"seed={seed}",))
    overrides += ("drop_duplicates=true",) if drop_duplicates else ()
    loaded = load_suite(suite, overrides, dataset, tuple(sweep or ()))
    if dataset_root is not None:
        params = loaded.dataset.params | {"root": str(dataset_root)}
        loaded = loaded.model_copy(update={"dataset": loaded.dataset.model_copy(update={"params": params})})
    defenses = defense or [name for kind, name in added if kind == "defense"]
    elsewhere = options.precomputed(precomputed or [])
    loaded = options.narrowed(loaded, defenses, attack or [], sweep or [], elsewhere)
    if recognizer:
        for name in recognizer:
            recognizer_component(name)  # before the data are opened, which takes longer
        loaded = loaded.model_copy(update={"recognizers": tuple(recognizer)})
    opened = open_dataset(loaded.dataset)
    plan = make_plan(loaded, opened, plugins)
    options.tell_left_out(plan, opened)
    running = {component.name for component in (*plan.defenses, *plan.attacks.values())}
    for name in sorted({name for _, name in added} - running):
        err.print(f"the plug-in {name} is not among what --defense or --attack chooses: it does not run",
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    store = ResultStore(results)
    pending = missing(plan, store, rerun.value if rerun else None)
    if dry_run:
        print_plan(describe(plan.cells, store, plan), len(pending), as_json)
        return
    options.check_writable(results)
    start = time.monotonic()
    if pending:
        Lab(plan, opened).audit()
    with Progress(len(pending), f"{plan.suite} on {plan.dataset.label}") as progress:
        outcome = execute(plan, store, workers=workers, rerun=rerun.value if rerun else None, report=progress)
    if pending or outcome.moves:
        store.write_index()
    summary = {
        "suite": plan.suite, "cells": len(plan.cells), "already_recorded": outcome.cached, **dict(outcome.counts),
        "set_aside": outcome.moves.aside.total(), "brought_back": outcome.moves.back,
        "seconds": round(time.monotonic() - start, 1), "results": str(results / plan.suite),
    }  # fmt: skip
    if as_json:
        print(json.dumps(summary))
    else:
        done = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items())) or "nothing to do"
        err.print(f"{plan.suite}: {len(plan.cells)} cells, {outcome.cached} already recorded; {done}; "
                  f"{summary['seconds']} s. Records: {summary['results']}", highlight=False)  # fmt: skip
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def leaderboard(
    results: Results = Path("results"),
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the pages.")] = Path("leaderboards"),
    as_json: Json = False,
) -> None:
    """Publish the pages of every suite that has records, and print the tables."""
    from ppfr_bench.leaderboard import pages, table, terminal
    from ppfr_bench.results import ResultStore

    store = ResultStore(results)
    suites = sorted({record.suite for record in store.records()})
    if not suites:
        raise UserError(f"no records in {results}", "Run a suite first:  ppfr-bench run quick")
    published: dict[str, list[str]] = {}
    for suite in suites:
        published[suite] = [str(path) for path in pages.publish(results, suite, out_dir)]
        if not as_json:
            terminal.print_table(table.build(list(store.records(suite))), out)
    if as_json:
        print(json.dumps(published, indent=1))
    else:
        out.print(f"Pages: {out_dir}/index.html", highlight=False)
        if count := len(store.paths_aside()):
            err.print(f"{count} records are set aside in {results}/SUITE/set-aside, and on no page.", highlight=False)


@app.command()
def nightly(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")] = "quick",
    results: Results = Path("results"),
    out_dir: Annotated[Path, typer.Option("--out", help="nights.jsonl, nightly.html and nightly.md go there.")] = Path(
        "leaderboards"
    ),
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the unchanged cells, measured anew.")] = 0.05,
    night: Annotated[str, typer.Option(help="YYYY-MM-DD; today's, in UTC, without.")] = "",
    benchmarks: Annotated[Path | None, typer.Option(help="What pytest --benchmark-json wrote tonight.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure what changed and a sample of what did not; exit 1 if a number left its interval since last night."""
    from dataclasses import asdict
    from datetime import UTC, date, datetime

    from ppfr_bench import nightly as nights
    from ppfr_bench.results import ResultStore, write_atomic
    from ppfr_bench.runner.plan import make_plan, open_dataset
    from ppfr_bench.suites import load_suite

    try:
        tonight = date.fromisoformat(night) if night else datetime.now(UTC).date()
    except ValueError as error:
        raise UserError(f"--night {night}: expected YYYY-MM-DD", "For example:  --night 2026-11-23") from error
    loaded = load_suite(suite)
    opened = open_dataset(loaded.dataset)
    plan = make_plan(loaded, opened)
    options.tell_left_out(plan, opened)
    options.check_writable(results)
    history = out_dir / "nights.jsonl"
    result = nights.run_night(plan, ResultStore(results), history, tonight, share, benchmarks, workers)
    text = nights.summary(result)
    write_atomic(out_dir / "nightly.md", text.encode())
    write_atomic(out_dir / "nightly.html", nights.trend(nights.read_history(history)))
    out.print(json.dumps(asdict(result)) if as_json else text, highlight=False, markup=False, soft_wrap=True)
    if result.findings:
        raise typer.Exit(1)


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A record (path or first digits of its key), or a defense.")],
    suite: Annotated[str, typer.Option(help="Only of this suite.")] = "",
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """One row explained: what each number is, which attack set it, between which floor and ceiling."""
    from ppfr_bench.leaderboard import table, terminal
    from ppfr_bench.results import ResultStore

    store = ResultStore(results)
    records = [store.read(Path(what))] if what.endswith(".json") else list(store.records(suite or None))
    chosen = records
    if not what.endswith(".json"):
        chosen = [record for record in records if len(what) >= 6 and record.key.startswith(what)]
        chosen += [store.read(path) for path in store.paths_aside() if len(what) >= 6 and path.stem.startswith(what)]
    if chosen:
        if as_json:
            print(json.dumps([record.model_dump(mode="json") for record in chosen], indent=1))
            return
        for record in chosen:
            terminal.explain(record, out)
        return
    of_defense = [record for record in records if record.defense.label == what]
    if not of_defense:
        known = {record.defense.label for record in records}
        raise UserError(f"no record or defense '{what}' in {results}", did_you_mean(what, known))
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in of_defense], indent=1))
        return
    for suite in sorted({record.suite for record in of_defense}):
        for row in table.build([record for record in records if record.suite == suite]):
            if row.defense == what:
                terminal.explain(row, out)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has, what is missing, and what to type to get it."""
    from dataclasses import asdict

    from ppfr_bench.doctor import examine, healthy

    found = examine()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        marks = {"ok": "[green]✓[/green]", "missing": "[red]✗[/red]", "note": "[yellow]·[/yellow]"}
        for one in found:
            hint = f"\n    {escape(one.hint)}" if one.hint else ""
            out.print(f"{marks[one.state]} {one.what}: {escape(one.found)}{hint}", highlight=False, soft_wrap=True)
    if not healthy(found):
        raise typer.Exit(1)


@app.command()
def check(
    what: Annotated[str, typer.Argument(help="A plug-in's name or file; a recognizer, as --recognizer takes it.")],
    as_json: Json = False,
) -> None:
    """The contract, for a contributor, in seconds: on synthetic faces, without any download."""
    from ppfr_bench.check import check_plugin

    if what.endswith(".toml") or ":" in what or what in names(What.recognizers):
        return check_recognizer(what, as_json)
    if what.endswith(".py"):
        path = Path(what).resolve()
        known = {stem for kind in ("defense", "attack") for stem in registry.names(kind)}
        inside = path.parent.name in ("defenses", "attacks") and path.stem in known
        kind, name = (path.parent.name[:-1], path.stem) if inside else registry.add_plugin(path)
    else:
        kinds = [kind for kind in ("defense", "attack") if what in registry.names(kind)]
        if not kinds:
            known = {*registry.names("defense"), *registry.names("attack")}
            raise UserError(f"unknown plug-in '{what}'", did_you_mean(what, known))
        kind, name = kinds[0], what
    findings = check_plugin(kind, name)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps({"kind": kind, "name": name, "findings": [vars(finding) for finding in findings]}))
    else:
        for finding in findings:
            out.print(f"[red]✗[/red] {finding.code}: {escape(finding.message)}", highlight=False)
        if not findings:
            out.print(f"[green]✓[/green] {kind} {name} keeps the contract", highlight=False)
    if findings:
        raise typer.Exit(1)


@app.command()
def new(kind: Kind, name: str, as_json: Json = False) -> None:
    """Write a plug-in that passes `check`, to start from."""
    from ppfr_bench.scaffold import write_plugin

    path = write_plugin(kind.value, name)
    tell(f"{path}\nNext:  ppfr-bench check {path}", as_json, path=str(path))


@app.command()
def submit(
    defense: str,
    suite: Annotated[str, typer.Option(help="The suite that it was run in.")] = "quick",
    results: Results = Path("results"),
    target: Annotated[Path | None, typer.Option("--out", help="NAME-SUITE.zip here, without.")] = None,
    as_json: Json = False,
) -> None:
    """Pack a defense and its records for a pull request; refused if a cell is missing, failed or of changed code."""
    from ppfr_bench.results import ResultStore
    from ppfr_bench.submission import pack

    plan = options.plan_of(suite, [defense])
    path = target or Path(f"{defense}-{plan.suite}.zip")
    count = pack(defense, plan, ResultStore(results), path)
    tell(
        f"{path}: defenses/{defense}.py and {count} records of {plan.suite}.\n"
        "Attach it to an issue, or add the files to a pull request yourself:\n"
        f"  git add defenses/{defense}.py {results}/{plan.suite} && git commit -m 'Defense {defense}'",
        as_json, archive=str(path), defense=defense, suite=plan.suite, records=count,
    )  # fmt: skip


@app.command()
def accept(
    archive: Annotated[Path, typer.Argument(help="What ppfr-bench submit made.")],
    root: Annotated[Path, typer.Option("--into", help="A checkout.")] = Path(),
    as_json: Json = False,
) -> None:
    """Take a submission into a checkout: checked file by file, and none of them run."""
    from ppfr_bench.submission import take

    found = take(archive, root)
    suites = " ".join(sorted({record.suite for record in found.records}))
    tell(
        f"{len(found.records)} records of {found.name} in {suites}. Nothing of it has run.\n"
        f"Read defenses/{found.name}.py. Then:\n"
        f"  ppfr-bench check {found.name}\n"
        f"  ppfr-bench score {found.name} --suite {suites} --anew",
        as_json, defense=found.name, suites=suites.split(), records=len(found.records),
    )  # fmt: skip


@app.command()
def score(
    defense: Annotated[list[str], typer.Argument(help="One or more.")],
    suite: Annotated[str, typer.Option(help="The suite that it was run in.")] = "quick",
    results: Results = Path("results"),
    anew: Annotated[bool, typer.Option("--anew", help="Protect and attack again, not from what is cached.")] = False,
    sample: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the cells, the same each time.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure recorded cells again and compare; exit 1 if a number leaves the interval that it is published with."""
    from dataclasses import asdict

    from ppfr_bench import submission
    from ppfr_bench.results import ResultStore

    plan, store = options.plan_of(suite, defense), ResultStore(results)
    cells = [cell for cell in plan.cells if cell.defense.label in defense and int(cell.key[:8], 16) < sample * 2**32]
    recorded = [cell for cell in cells if store.find(plan.folder(cell), cell.key) is not None]
    if not recorded:
        raise UserError(f"none of {len(cells)} cells is recorded in {results}", f"ppfr-bench run {suite}")
    found = submission.score(plan, store, recorded, anew, workers)
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


def main() -> None:
    """Run the command line: a UserError is one message and exit code 2, a bug is code 1 unless --debug asks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    cli_process.run(app)


if __name__ == "__main__":
    main()
