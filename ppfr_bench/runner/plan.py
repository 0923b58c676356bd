"""Plan: a suite becomes a list of cells, each with the spec that determines its result and the key of that spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ppfr_bench import registry
from ppfr_bench.api import AttackCard, Defense, DefenseCard, FaceDataset
from ppfr_bench.contamination import Training, WithoutCopies
from ppfr_bench.datasets import dataset_class, load_dataset
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import METRICS
from ppfr_bench.recognizers import recognizer_component, recognizer_names
from ppfr_bench.results import SCHEMA_VERSION, CellKind, Component, digest
from ppfr_bench.suites import DatasetEntry, Entry, Protocol, Suite, explain

if TYPE_CHECKING:
    from ppfr_bench.guests import Guest, Luggage


@dataclass(frozen=True)
class Cell:
    """One record to be: what is measured (``kind``), on which defense, by which attack and recognizer."""

    kind: CellKind
    defense: Component
    attack: Component | None
    recognizer: Component | None
    key: str

    @property
    def adapted(self) -> bool:
        """Whether the recognizer is first fine-tuned on what the defense releases."""
        return self.kind == "utility" and self.recognizer is not None and bool(self.recognizer.config)

    @property
    def title(self) -> str:
        """For progress lines: ``pixelate / linkage / dlib_resnet``."""
        parts = (self.defense.label, self.attack.label if self.attack else self.kind,
                 self.recognizer.label if self.recognizer else "")  # fmt: skip
        return " / ".join(part for part in parts if part)


@dataclass(frozen=True)
class Plan:
    """A suite resolved: every component with its version and full parameters, and the cells."""

    suite: str
    seed: int
    surrogate: str
    protocol: Protocol
    dataset: Component
    dataset_params: dict[str, Any]
    dataset_revision: str
    real_people: bool
    identity: Component  # the ceiling: nothing is protected
    blackout: Component  # the floor: nothing is released
    defenses: tuple[Component, ...]
    attacks: dict[str, Component]
    cells: tuple[Cell, ...]
    plugins: tuple[Path, ...] = ()
    brought: tuple[str, ...] = ()  # recognizers that are not built in, as they were named
    guests: tuple[Guest, ...] = ()  # defenses that no file holds
    luggage: Luggage | None = None  # a data set that no name and parameters open
    drop_duplicates: bool = False  # whether training copies of measured photographs are left out

    def open_dataset(self) -> FaceDataset:
        """The data set again, in any process."""
        entry = DatasetEntry(
            name=self.dataset.name, params=self.dataset_params, drop_duplicates=self.drop_duplicates
        )  # fmt: skip
        return open_dataset(entry, self.luggage.unpack() if self.luggage else None)

    def folder(self, cell: Cell) -> Path:
        """Where the cell's record lies below the results root."""
        what = cell.attack.label if cell.attack else cell.kind
        return Path(self.suite) / self.dataset.label / cell.defense.label / what


def make_plan(suite: Suite, dataset: FaceDataset, plugins: tuple[Path, ...] = ()) -> Plan:
    """Resolve a suite. Every name, key and parameter is checked here, before anything runs.

    Raises:
        UserError: an unknown or invalid component, named with the nearest known one.
    """
    identity, blackout = (_component("defense", Entry(name=name)) for name in ("identity", "blackout"))
    defenses = tuple(_component("defense", entry) for entry in suite.defense)
    data = Component(
        label=suite.dataset.label, name=suite.dataset.name, version=dataset.version,
        config=_without_paths(suite.dataset.params) | _dropped(dataset, defenses),
    )  # fmt: skip
    attacks = {entry.label: _component("attack", entry) for entry in suite.attack}
    named = {source: recognizer_component(source) for source in suite.recognizers}
    recognizers = tuple(named.values())
    _check_labels(named)
    surrogate = recognizer_component(suite.surrogate) if suite.surrogate else None
    only = {entry.label: entry.recognizers for entry in suite.attack}
    for attack in attacks.values():
        _sources(attack, attacks)

    base = {
        "schema": SCHEMA_VERSION, "seed": suite.seed, "dataset": dataset.revision,
        "surrogate": surrogate.name if surrogate else "",
        "protocol": suite.protocol.model_dump(include={"shots", "replicates", "threads"}),
        "metrics": {name: info.version for name, info in METRICS.items()},
    }  # fmt: skip

    def cell(
        kind: CellKind,
        defense: Component,
        attack: Component | None = None,
        recognizer: Component | None = None,
    ) -> Cell:
        chain = [identity_of(a) for a in (attack, *_sources(attack, attacks))] if attack else []
        spec = base | {"cell": kind, "defense": identity_of(defense), "attack": chain,
                       "recognizer": identity_of(recognizer) if recognizer else None}  # fmt: skip
        return Cell(kind, defense, attack, recognizer, digest(spec))

    cells = [cell("canary", identity, None, recognizer) for recognizer in recognizers]
    for defense in sorted(defenses, key=lambda component: component.name != "identity"):  # ceilings first
        cells += [cell("utility", defense, None, recognizer) for recognizer in recognizers]
        if surrogate and registry.load("defense", defense.name).card.output == "representation":
            adapted = Component(
                label=f"{surrogate.label}_adapted", name=surrogate.name, version=surrogate.version,
                config=dict(suite.protocol.adaptor),
            )  # fmt: skip
            cells.append(cell("utility", defense, None, adapted))
        for attack in attacks.values():
            card: AttackCard = registry.load("attack", attack.name).card
            wanted = only[attack.label] or tuple(named)
            mine = [r for source, r in named.items() if source in wanted or r.label in wanted]
            chosen = mine if card.needs_recognizer else [None]
            cells += [cell("attack", defense, attack, r) for r in chosen]
    return Plan(
        suite=suite.name, seed=suite.seed, surrogate=surrogate.name if surrogate else "", protocol=suite.protocol,
        dataset=data, dataset_params=dict(suite.dataset.params), dataset_revision=dataset.revision,
        real_people=dataset.card.real_people, identity=identity, blackout=blackout, defenses=defenses, attacks=attacks,
        cells=tuple(cells), plugins=plugins,
        brought=tuple(sorted({*suite.recognizers, suite.surrogate} - {"", *recognizer_names()})),
        drop_duplicates=isinstance(dataset, WithoutCopies),
    )  # fmt: skip


def open_dataset(entry: DatasetEntry, given: FaceDataset | None = None) -> FaceDataset:
    """The data set of a suite, its parameters checked, without duplicates where the suite drops them.

    Args:
        given: one that is open already, and is taken as it is.

    Raises:
        UserError: unknown data set, unknown key, wrong type, or data that are not there.
    """
    dataset = _loaded(entry) if given is None else given
    return WithoutCopies(dataset) if entry.drop_duplicates else dataset


def training_splits(defenses: Iterable[Component]) -> list[Training]:
    """The splits that somebody trains on: the attacker's, and the defender's if one of the defenses learns."""
    learned = any(registry.load("defense", one.name).fit is not Defense.fit for one in defenses)
    return ["attacker", "defender"] if learned else ["attacker"]


def _dropped(dataset: FaceDataset, defenses: Iterable[Component]) -> dict[str, Any]:
    """For the record: the images that are left out of each split that is trained on, by name."""
    if not isinstance(dataset, WithoutCopies):
        return {}
    return {"drop_duplicates": {split: dataset.dropped(split) for split in training_splits(defenses)}}


def _loaded(entry: Entry) -> FaceDataset:
    try:
        return load_dataset(entry.name, entry.params)
    except ValidationError as error:
        model = dataset_class(entry.name).Config
        raise UserError(
            f"data set {entry.name}: {explain(error, model)}", "See the [dataset] table of the suite."
        ) from error


def identity_of(component: Component) -> dict[str, Any]:
    """What determines a component's output: not its label."""
    return component.model_dump(exclude={"label"})


def _component(kind: registry.Kind, entry: Entry) -> Component:
    plugin = registry.build(kind, entry.name, entry.params)
    card = type(plugin).card
    if isinstance(card, DefenseCard) and card.output == "template":
        raise UserError(f"{entry.name} releases a template; the suites of this version measure images", "")
    return Component(
        label=entry.label,
        name=entry.name,
        version=type(plugin).version,
        config=plugin.config.model_dump(mode="json"),
    )


def _sources(attack: Component, attacks: dict[str, Component]) -> list[Component]:
    """The attacks whose reconstructions an attack starts from, and theirs."""
    found: list[Component] = []
    queue = [attack]
    while queue:
        current = queue.pop()
        for label in registry.build("attack", current.name, current.config).sources:
            if label not in attacks:
                raise UserError(
                    f"attack '{current.label}' starts from '{label}', which this suite does not run",
                    f"Add it to the suite, or choose one of: {', '.join(attacks)}.",
                )
            if attacks[label] in found or attacks[label] == attack:
                continue
            found.append(attacks[label])
            queue.append(attacks[label])
    return found


def _check_labels(named: dict[str, Component]) -> None:
    labels = [component.label for component in named.values()]
    for source, component in named.items():
        if labels.count(component.label) > 1:
            raise UserError(
                f"two recognizers are labelled '{component.label}', one of them {source}", "Change one card's label."
            )


def _without_paths(params: dict[str, Any]) -> dict[str, Any]:
    """Folders say where the data lie, not what they are: they stay out of records."""
    return {name: value for name, value in params.items() if not name.endswith("root")}
