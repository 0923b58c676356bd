"""``ppfr-bench list``: what there is, by name and title; with ``-v`` what each is. Nothing of it is imported."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, cast

import typer
from rich.table import Table
from rich.text import Text

from ppfr_bench import registry
from ppfr_bench.card_reader import described
from ppfr_bench.cli.options import Json, Plugins, Trust
from ppfr_bench.cli.recognizers import list_recognizers
from ppfr_bench.console import out

_MORE = ("family", "knowledge", "randomness", "measures", "tracks", "reference", "licence", "code_url", "deviations")


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
    return registry.names(_kind(what))


def _kind(what: What) -> registry.Kind:
    """What is listed is a kind in the plural, but for metrics, suites and assets."""
    return cast(registry.Kind, what.value[:-1])


def about(what: What, name: str) -> dict[str, Any]:
    """``title``, and where they are known ``plain``, family, reference and the like, of one thing that is listed."""
    if what is What.metrics:
        return _of_metric(name)
    if what is What.suites:
        from ppfr_bench.suites import load_suite

        suite = load_suite(name)
        return {"title": suite.title, "plain": suite.description}
    if what is What.assets:
        from ppfr_bench.assets import MANIFEST

        asset = MANIFEST[name]
        return {"title": f"{asset.package} {asset.version}", "licence": asset.licence}
    said = described(_kind(what), name)
    lines = str(said.get("docstring", "")).strip().splitlines()
    title = str(said.get("title") or (lines[0] if lines else ""))
    plain = said.get("plain") or said.get("description") or ""
    return {"title": title, "plain": plain} | {key: said[key] for key in _MORE if said.get(key)}


def _of_metric(name: str) -> dict[str, Any]:
    from ppfr_bench.metrics import metric_info

    info = metric_info(name)
    return {"title": info.description, "reference": info.source, "direction": info.direction, "unit": info.unit}


def list_(
    what: Annotated[What | None, typer.Argument(help="Only this kind.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Describe each entry.")] = False,
    plugin: Plugins = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """List the plug-ins, suites and assets, of one kind or of all kinds, by name and title."""
    registry.run_here(trust)
    for path in plugin or ():
        registry.add_plugin(path)
    if what is What.recognizers:
        return list_recognizers(as_json)
    found = {kind: {name: about(kind, name) for name in names(kind)} for kind in ([what] if what else What)}
    if as_json:
        said = {kind.value: {name: _told(one, verbose) for name, one in them.items()} for kind, them in found.items()}
        print(json.dumps(said[what.value] if what else said, indent=1, ensure_ascii=False))
        return
    for kind, members in found.items():
        if what is None:
            out.print(f"[bold]{kind.value}[/bold]")
        if verbose:
            _explain(members)
        else:
            _print(members, indent=0 if what else 2)


def _told(one: dict[str, Any], verbose: bool) -> dict[str, Any]:
    return one if verbose else {"title": one["title"]}


def _print(members: dict[str, dict[str, Any]], indent: int) -> None:
    """Name and title of each; a title that is too long for the line goes on below itself."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, one in members.items():
        table.add_row(Text(" " * indent + name), Text(one["title"]))
    out.print(table)


def _explain(members: dict[str, dict[str, Any]]) -> None:
    """Of each: title and name, what it is in plain words, and what else its card says."""
    for name, one in members.items():
        out.print(Text.assemble((one["title"], "bold"), "  ", (name, "dim")), highlight=False)
        if one.get("plain"):
            out.print(Text(f"  {one['plain']}"), soft_wrap=True)
        for key, value in one.items():
            if key in ("title", "plain"):
                continue
            said = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
            out.print(Text(f"  {key.replace('_', ' ')}: {said}", style="dim"), soft_wrap=True)
