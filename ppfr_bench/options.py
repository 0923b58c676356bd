"""What options of the command line come to. Imports wait, so that ``--help`` does not load torch."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppfr_bench import registry
from ppfr_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ppfr_bench.runner.plan import Plan
    from ppfr_bench.suites import Entry


Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


def choose(kind: str, chosen: list[str], entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The chosen entries of a suite, by label or name; a plug-in the suite does not hold comes with its defaults.

    An attack brings along the attacks whose reconstructions it starts from.
    """
    from ppfr_bench.suites import Entry

    known = registry.names("defense" if kind == "defense" else "attack")
    result: list[Entry] = []
    for name in chosen:
        found = [entry for entry in entries if entry.label == name] or [e for e in entries if e.name == name]
        if not found and name not in known:
            raise UserError(f"unknown {kind} '{name}'", did_you_mean(name, {*known, *(e.label for e in entries)}))
        for entry in found or [Entry(name=name)]:
            sources = registry.build("attack", entry.name, entry.params).sources if kind == "attack" else ()
            for more in [e for e in entries if e.label in sources] + [entry]:
                if more not in result:
                    result.append(more)
    return tuple(result)


def precomputed(folders: list[Path]) -> tuple[Entry, ...]:
    """One entry a folder, labelled as the folder is named."""
    from pydantic import ValidationError

    from ppfr_bench.precomputed import take_back
    from ppfr_bench.suites import Entry

    found = []
    for folder in folders:
        key = take_back(folder)
        try:
            found.append(Entry(name="precomputed", label=folder.resolve().name, params={"images": key}))
        except ValidationError as error:
            raise UserError(
                f"{folder}: its name becomes the label: expected lower-case letters, digits and _",
                "Rename it.",
            ) from error
    return tuple(found)


def plan_of(suite: str, defenses: list[str]) -> Plan:
    """A suite as it is shipped, with some defenses alone."""
    from ppfr_bench.runner.plan import make_plan, open_dataset
    from ppfr_bench.suites import load_suite

    loaded = load_suite(suite)
    loaded = loaded.model_copy(update={"defense": choose("defense", defenses, loaded.defense)})
    return make_plan(loaded, open_dataset(loaded.dataset))


def params(settings: list[str] | None) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected key=value", "For example:  --set sigma=6")
        try:
            params[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            params[name] = text
    return params


def check_writable(folder: Path) -> None:
    from ppfr_bench.results import write_atomic

    probe = folder / ".writable"
    write_atomic(probe, b"")
    probe.unlink()
