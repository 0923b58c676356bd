"""Suites: what to run, one TOML each, checked before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from ppfr_bench import registry
from ppfr_bench.api import Config
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.places import user_path
from ppfr_bench.records.hashing import canonical_json, digest
from ppfr_bench.records.record import LABEL
from ppfr_bench.text import SMALL, parse_toml, printable, read_text, toml_value
from ppfr_bench.variants import LONGEST, Sweep, read_sweep, variant_label


class Entry(Config):
    """One plug-in in a suite: its name, its parameters, and a label where the name alone is not unique.

    ``variant_of``: the label that it has in the suite, where ``--set`` or ``--sweep`` changed it; no key of a file.
    """

    name: str
    label: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    recognizers: tuple[str, ...] = ()  # of an attack: only with these, where it needs one at all
    variant_of: str = ""

    @model_validator(mode="before")
    @classmethod
    def _label_defaults_to_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("label") and isinstance(data.get("name"), str):
            data = data | {"label": data["name"]}
        return data

    @model_validator(mode="after")
    def _label_is_safe(self) -> Entry:
        if not LABEL.fullmatch(self.label):
            raise ValueError(f"expected a label of lower-case letters, digits and _, got {self.label!r}")
        return self


class DatasetEntry(Entry):
    """The data set of a suite; ``drop_duplicates`` is the suite's own key of that name."""

    drop_duplicates: bool = False


class Protocol(Config):
    """How a suite measures, the same for every defense."""

    shots: int = Field(1, ge=1, le=64)  # independently protected versions of one target that the attacker holds
    replicates: int = Field(200, ge=20, le=10_000)  # bootstrap draws of identities
    threads: int = Field(2, ge=1)  # a worker's, part of the protocol: sums depend on how they are split
    timeout: float = Field(1800, gt=0)  # seconds a stage may take
    memory: float | None = Field(None, gt=0)  # GiB a worker's process may take; None for its share of the machine's
    samples: int = Field(4, ge=0, le=8)  # faces in a record's sample strip (synthetic data only)
    batch: int = Field(64, ge=1)  # images in memory at a time
    adaptor: dict[str, int] = Field(default_factory=lambda: {"warm": 1200, "steps": 120})  # of a fine-tuned recognizer


Budget = Literal["smoke", "quick", "standard", "full"]


class EnsembleEntry(Entry):
    """One attack of an ensemble: the ``budgets`` it belongs to (all, if none is named), and what each adds."""

    budgets: tuple[Budget, ...] = ()
    budget: dict[Budget, dict[str, Any]] = Field(default_factory=dict)


class Ensemble(Config):
    """A fixed set of attacks: ``suites/ensembles/NAME.toml``."""

    attack: tuple[EnsembleEntry, ...] = Field(min_length=1)

    def entries(self, budget: Budget, recognizers: list[str]) -> list[dict[str, Any]]:
        """The attacks under a budget, as a suite would list them; only recognizers that the suite has."""
        return [
            {
                "name": entry.name, "label": entry.label, "params": entry.params | entry.budget.get(budget, {}),
                "recognizers": [name for name in entry.recognizers if name in recognizers],
            }
            for entry in self.attack if not entry.budgets or budget in entry.budgets
        ]  # fmt: skip


class Suite(Config):
    """A suite file."""

    name: str = Field(pattern=rf"^{LABEL.pattern}$")
    title: str
    description: str = ""
    seed: int = Field(0, ge=0)
    surrogate: str = ""  # the recognizer that learned defenses and attacks may train on; the others are unseen
    recognizers: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()  # image metrics beside those that every reconstruction is compared by
    ceiling: str = "identity"  # the defense that protects nothing, between which
    floor: str = "blackout"  # and the one that releases nothing a leakage lies
    protocol: Protocol = Protocol()
    drop_duplicates: bool = False  # leave out the training copies of measured photographs, instead of refusing the data
    dataset: DatasetEntry
    defense: tuple[Entry, ...] = Field(min_length=1)
    ensemble: str = ""  # a fixed set of attacks, before those of the suite's own
    budget: Budget = "standard"
    attack: tuple[Entry, ...] = Field(min_length=1)

    @property
    def controls(self) -> tuple[str, str]:
        """The two ends of the scale, which stand on every board."""
        return self.ceiling, self.floor

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Suite:
        for kind in ("defense", "attack"):
            labels = [entry.label for entry in getattr(self, kind)]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"two {kind}s are labelled {twice[0]!r}; give one of them another label")
        if self.surrogate and self.surrogate not in self.recognizers:
            raise ValueError(f"surrogate {self.surrogate!r} is not among the recognizers {list(self.recognizers)}")
        return self

    def changed(self) -> set[str]:
        """Labels of the defenses and attacks that ``--set`` or ``--sweep`` has given labels of their own."""
        return {entry.label for entry in (*self.defense, *self.attack) if entry.variant_of}


def suite_names() -> list[str]:
    """Names of the suites that ship with the package."""
    return sorted(Path(f.name).stem for f in resources.files(__name__).iterdir() if f.name.endswith(".toml"))


def load_suite(
    name: str, overrides: tuple[str, ...] = (), dataset: str | None = None, sweeps: tuple[str, ...] = ()
) -> Suite:
    """A shipped suite by name, or a suite file by path, with ``path=value`` overrides applied.

    ``dataset`` takes the place of the suite's data set, with its own defaults; overrides come after it. A defense or
    an attack that an override changes is labelled by the change (``pixelate_block_14``), unless other attacks start
    from it. Of a defense that ``sweeps`` name (``defense.pixelate.block=4,8``) there is one entry a value instead.

    Raises:
        UserError: no such suite, not TOML, an unknown key or a wrong type: named, with what was expected.
    """
    shown = printable(name)
    if name.endswith(".toml"):
        path, shipped = user_path(name, "the suite file"), f"Shipped suites: {', '.join(suite_names())}."
        text, stem = read_text(path, shipped, "suite file", SMALL), printable(path.stem)
    elif name in suite_names():
        text, stem = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise UserError(f"unknown suite '{shown}'", did_you_mean(name, suite_names()))
    data = parse_toml(text, shown, "See ppfr_bench/suites/quick.toml for an example.")
    data.setdefault("name", stem)
    if "ensemble" in data:
        own = data.get("attack", [])
        data["attack"] = _ensemble(data) + (own if isinstance(own, list) else [])
    if dataset is not None:
        data["dataset"] = {"name": dataset}
    changes: Changes = {}
    for override in overrides:
        _apply(data, override, changes)
    swept = [read_sweep(text) for text in sweeps]
    for sweep in swept:
        _known(data, sweep.kind, sweep.label, f"--sweep {sweep.text}")
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"suite {shown}: {explain(error, Suite)}", "Keys are listed in docs/howto/write_a_suite.md."
        ) from error
    opened = suite.dataset.model_copy(update={"drop_duplicates": suite.drop_duplicates})
    return _varied(suite.model_copy(update={"dataset": opened}), changes, swept)


def ensemble_names() -> list[str]:
    """Names of the ensembles that ship with the package."""
    folder = resources.files(__name__) / "ensembles"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def _ensemble(data: dict[str, Any]) -> list[dict[str, Any]]:
    name, budget = data["ensemble"], data.get("budget", "standard")
    if name not in ensemble_names():
        raise UserError(f"unknown ensemble {name!r}", did_you_mean(str(name), ensemble_names()))
    if budget not in get_args(Budget):
        raise UserError(f"unknown budget {budget!r}", did_you_mean(str(budget), list(get_args(Budget))))
    text = (resources.files(__name__) / "ensembles" / f"{name}.toml").read_text(encoding="utf-8")
    named = data.get("recognizers")
    return Ensemble.model_validate(tomllib.loads(text)).entries(budget, named if isinstance(named, list) else [])


def explain(error: ValidationError, model: type[Config]) -> str:
    """The first complaint of pydantic in one line: where, what was expected, what came, the nearest known key."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "(whole)"
    if first["type"] == "extra_forbidden":
        known: Any = model
        for part in first["loc"][:-1]:
            field = getattr(known, "model_fields", {}).get(part) if isinstance(part, str) else None
            annotation = field.annotation if field is not None else known
            arguments = getattr(annotation, "__args__", None)
            known = arguments[0] if arguments else annotation
        fields = list(getattr(known, "model_fields", {}))
        return f"unknown key '{where}'. {did_you_mean(str(first['loc'][-1]), fields) if fields else ''}".strip()
    came = "" if first["type"] == "missing" else f" (got {first.get('input')!r:.120})"
    return f"{where}: {first['msg']}{came}"


Changes = dict[tuple[str, str], dict[str, Any]]  # (kind, label) -> parameter -> value


def _apply(data: dict[str, Any], override: str, changes: Changes) -> None:
    """``dataset.x=1``, ``protocol.shots=4``, ``attack.unet.steps=50``, ``defense.LABEL.sigma=8``, ``seed=1``.

    What is asked of defenses and attacks is noted in ``changes``, as their labels may follow from it.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: expected path=value", "For example:  --set attack.unet.steps=300")
    value = toml_value(text, override)
    parts = path.split(".")
    if parts[0] in ("defense", "attack") and len(parts) == 3:
        _known(data, parts[0], parts[1], f"--set {override}")
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


def _known(data: dict[str, Any], kind: str, label: str, asked: str) -> None:
    """Check that a suite has a defense or an attack; a plug-in that is no defense of the suite joins it as it is.

    Raises:
        UserError: it is unknown; the nearest label is named.
    """
    listed = data.setdefault(kind, [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        return  # the file is refused for it
    labels = [entry.get("label") or entry.get("name") for entry in listed]
    labels = [one for one in labels if isinstance(one, str)]
    if label in labels:
        return
    plugins = registry.names("defense") if kind == "defense" else []
    if label not in plugins:
        raise UserError(f"{asked}: no {kind} '{label}' in this suite", did_you_mean(label, {*labels, *plugins}))
    listed.append({"name": label})


def _varied(suite: Suite, changes: Changes, sweeps: Sequence[Sweep]) -> Suite:
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
        if same in own:  # chosen and missed as the variant that it also is
            found[own[same]] = found[own[same]].model_copy(update={"variant_of": entry.variant_of})
            continue
        if entry.label in found:  # two values that read alike
            label = f"{entry.label[: LONGEST - 9]}_{digest(_config(kind, entry))[:8]}"
            entry = entry.model_copy(update={"label": label})
        own[same] = entry.label
        found[entry.label] = entry
    places = {label: at for at, label in enumerate(dict.fromkeys(entry.label for entry in entries))}
    return tuple(sorted(found.values(), key=lambda entry: places.get(entry.label, len(places))))


def _same(kind: registry.Kind, entry: Entry) -> str:
    """What two entries have in common that measure the same."""
    return canonical_json([entry.name, _config(kind, entry), entry.recognizers])
