"""``ppfr-bench list``, ``check``, ``new`` and ``doctor``: what there is, and whether it is in order."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ppfr_bench import registry
from ppfr_bench.cli.options import Json, Plugins, Trust
from ppfr_bench.cli.recognizers import check_recognizer, list_recognizers
from ppfr_bench.console import out, tell
from ppfr_bench.errors import UserError, did_you_mean

CHECKED: tuple[registry.Kind, ...] = ("defense", "attack")  # The contract of these kinds is checked by running them.


class What(StrEnum):
    """What can be listed."""

    defenses = "defenses"
    attacks = "attacks"
    recognizers = "recognizers"
    datasets = "datasets"
    metrics = "metrics"
    scorers = "scorers"
    tracks = "tracks"
    publishers = "publishers"
    engines = "engines"
    suites = "suites"
    assets = "assets"


class Kind(StrEnum):
    """What can be begun."""

    defense = "defense"
    attack = "attack"


def names(what: What) -> list[str]:
    """All names of one kind, without importing what they name."""
    if what is What.metrics:
        from ppfr_bench.metrics import metric_names

        return metric_names()
    if what is What.suites:
        from ppfr_bench.suites import suite_names

        return suite_names()
    if what is What.assets:
        from ppfr_bench.assets import MANIFEST

        return sorted(MANIFEST)
    kind: registry.Kind = what.value[:-1]  # type: ignore[assignment]  # The others are kinds in the plural.
    return registry.names(kind)


def list_(
    what: Annotated[What | None, typer.Argument()] = None,
    plugin: Plugins = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """List what there is, of one kind or of every kind."""
    registry.run_here(trust)
    for path in plugin or ():
        registry.add_plugin(path)
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


def check(
    what: Annotated[str, typer.Argument(help="A plug-in's name or file; a recognizer, as --recognizer takes it.")],
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """The contract, for a contributor, in seconds: on synthetic faces, without any download."""
    from ppfr_bench.contracts.check import check_plugin

    registry.run_here(trust)
    if what.endswith(".toml") or ":" in what or what in names(What.recognizers):
        return check_recognizer(what, as_json)
    if what.endswith(".py"):
        path = Path(what).resolve()
        inside = [kind for kind in CHECKED if path.parent.name == f"{kind}s" and path.stem in registry.names(kind)]
        added = [(kind, path.stem) for kind in inside] or registry.add_plugin(path)
        chosen = [one for one in added if one[0] in CHECKED] or added
    else:
        chosen = [(kind, what) for kind in CHECKED if registry.current_name(kind, what) in registry.names(kind)]
        if not chosen:
            known = {name for kind in CHECKED for name in registry.names(kind)}
            raise UserError(f"unknown plug-in '{what}'", did_you_mean(what, known))
    kind, name = chosen[0]
    findings = check_plugin(kind, name) if kind in CHECKED else []  # Others were checked as they were loaded.
    if as_json:
        print(json.dumps({"kind": kind, "name": name, "findings": [vars(finding) for finding in findings]}))
    else:
        for finding in findings:
            out.print(f"[red]✗[/red] {finding.code}: {escape(finding.message)}", highlight=False)
        if not findings:
            out.print(f"[green]✓[/green] {kind} {name} keeps the contract", highlight=False)
    if findings:
        raise typer.Exit(1)


def new(kind: Kind, name: str, as_json: Json = False) -> None:
    """Write a plug-in that passes `check`, to start from."""
    from ppfr_bench.scaffold import write_plugin

    path = write_plugin(kind.value, name)
    tell(f"{path}\nNext:  ppfr-bench check {path}", as_json, path=str(path))
