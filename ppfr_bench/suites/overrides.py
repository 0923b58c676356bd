"""Settings of the command line on top of a suite: ``--set path=value``, and ``--sweep`` over several values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ppfr_bench import registry
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.records.hashing import canonical_json, digest
from ppfr_bench.suites.schema import Entry, Suite
from ppfr_bench.text import toml_value
from ppfr_bench.variants import LONGEST, Sweep, variant_label

Changes = dict[tuple[str, str], dict[str, Any]]  # (kind, label) -> parameter -> value


def apply(data: dict[str, Any], override: str, changes: Changes) -> None:
    """``dataset.x=1``, ``protocol.shots=4``, ``attack.unet.steps=50``, ``defense.LABEL.sigma=8``, ``seed=1``.

    What is asked of defenses and attacks is noted in ``changes``, as their labels may follow from it.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: expected path=value", "For example:  --set attack.unet.steps=300")
    value = toml_value(text, override)
    parts = path.split(".")
    if parts[0] in ("defense", "attack") and len(parts) == 3:
        check_known(data, parts[0], parts[1], f"--set {override}")
        changes.setdefault((parts[0], parts[1]), {})[parts[2]] = value
    elif parts[0] == "dataset" and len(parts) == 2:
        _table(_table(data, "dataset"), "params")[parts[1]] = value
    elif parts[0] == "protocol" and len(parts) == 2:
        _table(data, "protocol")[parts[1]] = value
    elif (
        len(parts) == 1
        and parts[0] in Suite.model_fields
        and parts[0] not in ("dataset", "defense", "attack", "protocol")
    ):
        data[parts[0]] = value
    else:
        raise UserError(
            f"--set {override}: no such setting",
            "Use dataset.KEY, protocol.KEY, defense.LABEL.KEY, attack.LABEL.KEY, seed, recognizers, surrogate or "
            "drop_duplicates.",
        )


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of a suite, new if it is not there.

    Raises:
        UserError: the suite has something else under that key.
    """
    found = data.setdefault(key, {})
    if not isinstance(found, dict):
        raise UserError(f"'{key}' of the suite: expected a table, got {found!r:.80}", f"Write it as  [{key}]")
    return found


def check_known(data: dict[str, Any], kind: str, label: str, asked: str) -> None:
    """Check that a suite has a defense or an attack; a plug-in that is no defense of the suite joins it as it is.

    Raises:
        UserError: it is unknown; the nearest label is named.
    """
    listed = data.setdefault(kind, [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        return  # The file is refused for it.
    labels = [entry.get("label") or entry.get("name") for entry in listed]
    labels = [one for one in labels if isinstance(one, str)]
    if label in labels:
        return
    plugins = registry.names("defense") if kind == "defense" else []
    if label not in plugins:
        raise UserError(f"{asked}: no {kind} '{label}' in this suite", did_you_mean(label, {*labels, *plugins}))
    listed.append({"name": label})


def varied(suite: Suite, changes: Changes, sweeps: Sequence[Sweep]) -> Suite:
    """The suite with its defenses and attacks changed and swept, each setting under a label of its own."""
    update: dict[str, Any] = {}
    kinds: tuple[registry.Kind, ...] = ("defense", "attack")
    for kind in kinds:
        mine = {label: found for (of, label), found in changes.items() if of == kind}
        swept = [sweep for sweep in sweeps if sweep.kind == kind]
        if mine or swept:
            entries: tuple[Entry, ...] = getattr(suite, kind)
            fixed = _started_from(entries) if kind == "attack" else {}
            lists = [
                _swept(kind, entry, mine.get(entry.label, {}), found, fixed.get(entry.label, ""))
                if (found := [sweep for sweep in swept if sweep.label == entry.label])
                else [_variant(kind, entry, mine.get(entry.label, {}), entry.label in fixed)]
                for entry in entries
            ]
            update[kind] = _distinct(kind, lists)
    return suite.model_copy(update=update)


def _started_from(attacks: Iterable[Entry]) -> dict[str, str]:
    """Labels of attacks that others start from, each with one of these: renamed, it would not be found."""
    return {
        source: attack.label
        for attack in attacks
        for source in registry.build("attack", attack.name, attack.params).sources
        if source != attack.label
    }


def _swept(
    kind: registry.Kind, entry: Entry, changes: Mapping[str, Any], sweeps: Sequence[Sweep], needed_by: str
) -> list[Entry]:
    """One entry for each value of each sweep.

    Raises:
        UserError: a parameter that is asked for twice, a value that is wrong or given twice, or an attack that others
            start from.
    """
    found: list[Entry] = []
    for at, sweep in enumerate(sweeps):
        if needed_by:
            raise UserError(
                f"--sweep {sweep.text}: '{needed_by}' starts from '{entry.label}', which must be one attack",
                "List it under further labels in a suite file.",
            )
        if sweep.key in changes or any(sweep.key == other.key for other in sweeps[:at]):
            raise UserError(f"--sweep {sweep.text}: {sweep.key} is set twice", "Give all its values in one --sweep.")
        seen: list[str] = []
        for value in sweep.values:
            try:
                found.append(_variant(kind, entry, {**changes, sweep.key: value}))
                config = _config(kind, found[-1])
            except UserError as error:
                raise UserError(f"--sweep {sweep.text}: {error.message}", error.hint) from error
            if canonical_json(config) in seen:
                raise UserError(
                    f"--sweep {sweep.text}: {sweep.key} = {canonical_json(config[sweep.key])} is given twice",
                    "Name each value once.",
                )
            seen.append(canonical_json(config))
    return found


def _variant(kind: registry.Kind, entry: Entry, changes: Mapping[str, Any], fixed: bool = False) -> Entry:
    """The entry with parameters changed, labelled by those that are not what it has anyway."""
    if not changes:
        return entry
    changed = entry.model_copy(update={"params": {**entry.params, **changes}})
    before, after = _config(kind, entry), _config(kind, changed)
    real = {key: value for key, value in after.items() if key not in before or before[key] != value}
    if fixed or not real:
        return changed
    return changed.model_copy(update={"label": variant_label(entry.label, real), "variant_of": entry.label})


def _config(kind: registry.Kind, entry: Entry) -> dict[str, Any]:
    """All parameters of an entry, as in a record."""
    config: dict[str, Any] = registry.build(kind, entry.name, entry.params).config.model_dump(mode="json")
    return config


def _distinct(kind: registry.Kind, lists: Sequence[Sequence[Entry]]) -> tuple[Entry, ...]:
    """The entries, no setting and no label twice; a variant that the suite lists anyway goes by that label."""
    entries = [entry for one in lists for entry in one]
    touched = {entry.name for entry in entries if entry.variant_of}
    own = {_same(kind, entry): entry.label for entry in entries if entry.name in touched and not entry.variant_of}
    found = {entry.label: entry for entry in entries if not entry.variant_of}
    for entry in entries:
        if not entry.variant_of:
            continue
        same = _same(kind, entry)
        if same in own:  # It is chosen and missed as the variant that it also is.
            found[own[same]] = found[own[same]].model_copy(update={"variant_of": entry.variant_of})
            continue
        if entry.label in found:  # Two values read alike.
            label = f"{entry.label[: LONGEST - 9]}_{digest(_config(kind, entry))[:8]}"
            entry = entry.model_copy(update={"label": label})
        own[same] = entry.label
        found[entry.label] = entry
    places = {label: at for at, label in enumerate(dict.fromkeys(entry.label for entry in entries))}
    return tuple(sorted(found.values(), key=lambda entry: places.get(entry.label, len(places))))


def _same(kind: registry.Kind, entry: Entry) -> str:
    """What two entries have in common that measure the same."""
    return canonical_json([entry.name, _config(kind, entry), entry.recognizers])
