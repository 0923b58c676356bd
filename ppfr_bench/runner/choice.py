"""Which entries of a suite run: those that were chosen, under the settings that they were given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.protection.precomputed import take_back
from ppfr_bench.suites import Entry, Suite
from ppfr_bench.variants import read_sweep


def choose(kind: str, chosen: list[str], entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The chosen entries of a suite, by label or name; a plug-in the suite does not hold comes with its defaults.

    An entry that ``--set`` or ``--sweep`` has given a label of its own is chosen by the one it had. An attack brings
    along the attacks whose reconstructions it starts from.
    """
    of: registry.Kind = "defense" if kind == "defense" else "attack"
    known = registry.names(of)
    result: list[Entry] = []
    labels = {label for entry in entries for label in (entry.label, entry.variant_of)}
    for asked in chosen:
        name = asked if asked in labels else registry.current_name(of, asked)
        found = [entry for entry in entries if name in (entry.label, entry.variant_of)]
        found = found or [entry for entry in entries if entry.name == name]
        if not found and name not in known:
            raise registry.unknown(kind, name, {*known, *(e.label for e in entries)})
        for entry in found or [Entry(name=name)]:
            sources = registry.build("attack", entry.name, entry.params).sources if kind == "attack" else ()
            for more in [e for e in entries if e.label in sources] + [entry]:
                if more not in result:
                    result.append(more)
    return tuple(result)


def narrowed(
    suite: Suite, defenses: list[str], attacks: list[str], sweeps: Sequence[str], elsewhere: tuple[Entry, ...] = (),
    answered: tuple[Entry, ...] = (),
) -> Suite:  # fmt: skip
    """The suite with the chosen defenses and attacks only, those that are swept among them; all, if none is chosen.

    Args:
        sweeps: as the suite was loaded with.
        elsewhere: entries that come in beside the chosen defenses; ``answered``: beside the chosen attacks.

    Raises:
        UserError: an unknown name, or a setting of something that was not chosen.
    """
    for kind, chosen, more in (("defense", defenses, elsewhere), ("attack", attacks, answered)):
        if chosen or more:
            swept = [sweep.label for text in sweeps if (sweep := read_sweep(text)).kind == kind]
            entries = choose(kind, [*chosen, *swept], getattr(suite, kind)) + more
            check_settings_used(kind, getattr(suite, kind), entries)
            labels = [entry.label for entry in entries]
            if twice := next((label for label in labels if labels.count(label) > 1), None):
                raise UserError(
                    f"two {kind}s would be labelled '{twice}', and their records mixed",
                    "A folder of --precomputed or --answers is labelled by its name: rename one.",
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


def precomputed_entries(folders: Sequence[Path]) -> tuple[Entry, ...]:
    """One entry a folder, labelled as the folder is named."""
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
