"""``ppfr-bench check``, ``new`` and ``doctor``: whether what there is is in order."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ppfr_bench import registry
from ppfr_bench.card_reader import source_file
from ppfr_bench.cards import LONGEST_PLAIN
from ppfr_bench.cli.listing import What, names
from ppfr_bench.cli.options import Json, Trust
from ppfr_bench.cli.recognizers import check_recognizer
from ppfr_bench.console import out, tell
from ppfr_bench.errors import UserError
from ppfr_bench.places import is_folder
from ppfr_bench.text import printable

CHECKED: tuple[registry.Kind, ...] = ("defense", "attack")  # The contract of these kinds is checked by running them.


class Kind(StrEnum):
    """What can be begun."""

    defense = "defense"
    attack = "attack"


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
    """Check that a plug-in keeps its contract, in seconds, on synthetic faces and without any download."""
    from ppfr_bench.contracts.check import check_plugin

    registry.run_here(trust)
    if what.endswith(".toml") or ":" in what or what in names(What.recognizers):
        return check_recognizer(what, as_json)
    if what.endswith(".py"):
        path = Path(what).resolve()
        inside = [kind for kind in CHECKED if path.parent.name == f"{kind}s" and path.stem in registry.names(kind)]
        for kind in inside:
            _check_in_use(path, kind)
        added = [(kind, path.stem) for kind in inside] or registry.add_plugin(path)
        chosen = [one for one in added if one[0] in CHECKED] or added
    else:
        chosen = [(kind, what) for kind in CHECKED if registry.current_name(kind, what) in registry.names(kind)]
        if not chosen:
            if is_folder(Path(what)):
                raise UserError(f"expected a plug-in's name or file, got the folder {what}", "Name a file in it.")
            raise registry.unknown("plug-in", what, {name for kind in CHECKED for name in registry.names(kind)})
    kind, name = chosen[0]
    findings = check_plugin(kind, name) if kind in CHECKED else []  # Others were checked as they were loaded.
    reminder = _reminder(kind, name)
    if as_json:
        found = {"kind": kind, "name": name, "findings": [vars(finding) for finding in findings]}
        print(json.dumps(found | {"reminder": reminder}))
    else:
        for finding in findings:
            out.print(f"[red]✗[/red] {finding.code}: {escape(finding.message)}", highlight=False)
        if not findings:
            out.print(f"[green]✓[/green] {kind} {name} keeps the contract", highlight=False)
        if reminder:
            out.print(f"[yellow]·[/yellow] {escape(reminder)}", highlight=False, soft_wrap=True)
    if findings:
        raise typer.Exit(1)


def _check_in_use(path: Path, kind: registry.Kind) -> None:
    """Raises:
    UserError: a plug-in of that name comes from another file, such as that of another checkout.
    """
    used = source_file(kind, path.stem)
    if path.is_file() and used is not None and used.resolve() != path:
        raise UserError(
            f"{printable(path)} is not the file in use: {kind} '{path.stem}' is {printable(used)}",
            "Use the ppfr-bench of that checkout, after  pip install -e .   Or rename the file.",
        )


def _reminder(kind: registry.Kind, name: str) -> str:
    """What a card still lacks that pages show, and no contract asks for."""
    if kind not in CHECKED or registry.load(kind, name).card.plain:
        return ""
    does = "what the defense does" if kind == "defense" else "what the attack is"
    return (
        f"the card's `plain` is empty: say in one or two sentences {does}, for people outside the field; "
        f"at most {LONGEST_PLAIN} characters. Pages show it under the title."
    )


def new(
    kind: Annotated[Kind, typer.Argument(help="defense or attack.")],
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _.")],
    as_json: Json = False,
) -> None:
    """Write a plug-in that passes `check`, to start from."""
    from ppfr_bench.scaffold import write_plugin

    path = write_plugin(kind.value, name)
    tell(f"{path}\nNext:  ppfr-bench check {path}", as_json, path=str(path))
