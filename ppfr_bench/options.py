"""What options of the command line come to. Imports wait, so that ``--help`` does not load torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppfr_bench import registry
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.text import toml_value

if TYPE_CHECKING:
    from ppfr_bench.api import FaceDataset
    from ppfr_bench.runner.plan import Plan
    from ppfr_bench.suites import Entry, Suite


Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


def choose(kind: str, chosen: list[str], entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The chosen entries of a suite, by label or name; a plug-in the suite does not hold comes with its defaults.

    An entry that ``--set`` or ``--sweep`` has given a label of its own is chosen by the one it had. An attack brings
    along the attacks whose reconstructions it starts from.
    """
    from ppfr_bench.suites import Entry

    known = registry.names("defense" if kind == "defense" else "attack")
    result: list[Entry] = []
    for name in chosen:
        found = [entry for entry in entries if name in (entry.label, entry.variant_of)]
        found = found or [entry for entry in entries if entry.name == name]
        if not found and name not in known:
            raise UserError(f"unknown {kind} '{name}'", did_you_mean(name, {*known, *(e.label for e in entries)}))
        for entry in found or [Entry(name=name)]:
            sources = registry.build("attack", entry.name, entry.params).sources if kind == "attack" else ()
            for more in [e for e in entries if e.label in sources] + [entry]:
                if more not in result:
                    result.append(more)
    return tuple(result)


def narrowed(
    suite: Suite, defenses: list[str], attacks: list[str], sweeps: list[str], elsewhere: tuple[Entry, ...] = ()
) -> Suite:
    """The suite with the chosen defenses and attacks only, those that are swept among them; all, if none is chosen.

    Args:
        sweeps: as the suite was loaded with.
        elsewhere: entries that come in beside the chosen defenses.

    Raises:
        UserError: an unknown name, or a setting of something that was not chosen.
    """
    from ppfr_bench.variants import read_sweep

    for kind, chosen, more in (("defense", defenses, elsewhere), ("attack", attacks, ())):
        if chosen or more:
            swept = [sweep.label for text in sweeps if (sweep := read_sweep(text)).kind == kind]
            entries = choose(kind, [*chosen, *swept], getattr(suite, kind)) + more
            check_settings_used(kind, getattr(suite, kind), entries)
            labels = [entry.label for entry in entries]
            if twice := next((label for label in labels if labels.count(label) > 1), None):
                raise UserError(
                    f"two {kind}s would be labelled '{twice}', and their records mixed",
                    "A folder of --precomputed is labelled by its name: rename one.",
                )
            suite = suite.model_copy(update={kind: entries})
    return suite


def check_settings_used(kind: str, entries: tuple[Entry, ...], chosen: tuple[Entry, ...]) -> None:
    """Raises:
    UserError: an entry was changed by a setting and is not among the chosen: the setting would have no effect.
    """
    changed = {entry.variant_of for entry in chosen}
    for entry in entries:
        if entry.variant_of not in {"", *changed}:
            raise UserError(
                f"a setting of {kind} '{entry.variant_of}' has no effect: it is not among those that run",
                f"Leave the setting out, or add  --{kind} {entry.variant_of}",
            )


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


def tell_left_out(plan: Plan, dataset: FaceDataset) -> None:
    """Say which files the data set passes over, and which images are left out of training as copies."""
    from ppfr_bench.console import err

    for note in getattr(dataset, "notes", ()):
        err.print(note, highlight=False, markup=False, soft_wrap=True)
    for split, names in plan.dataset.config.get("drop_duplicates", {}).items():
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        what = f"are copies of measured photographs and left out: {listed}" if names else "are copies of measured ones"
        line = f"{len(names) or 'none'} of the {split}'s images {what}"
        err.print(line, highlight=False, markup=False, soft_wrap=True)


def params(settings: list[str] | None) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected key=value", "For example:  --set sigma=6")
        params[name] = toml_value(text, setting)
    return params


def check_writable(folder: Path) -> None:
    from ppfr_bench.results import write_atomic

    probe = folder / ".writable"
    write_atomic(probe, b"")
    probe.unlink()
