"""Plan: a suite becomes cells, each with the stages that its scorer is given and the key of its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ppfr_bench import registry
from ppfr_bench.api import Attack, AttackCard, FaceDataset
from ppfr_bench.datasets.disjoint_splits import Training, WithoutCopies
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import metric_info
from ppfr_bench.recognizers import recognizer_card, recognizer_component, recognizer_names
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.plan_file import (
    PlanFile,
    PlannedAttack,
    PlannedCell,
    PlannedDefense,
    PlannedRecognizer,
    PlannedTable,
)
from ppfr_bench.records.record import CellKind, Component, Slot
from ppfr_bench.runner.graph import Graph, needed
from ppfr_bench.scorers.base import Scorer
from ppfr_bench.stages.context import Setting
from ppfr_bench.stages.spec import Stage
from ppfr_bench.suites import Entry, Suite
from ppfr_bench.tracks.base import load_track
from ppfr_bench.wrapping import PickledDataset, WrappedDefense

VERIFICATION = "verification"  # The scorer of canaries; and of utility, where a track names no other.


@dataclass(frozen=True)
class Cell:
    """One record to be: what is measured (``kind``), on which defense, by which attack and recognizer.

    Attributes:
        track: of the defense.
        scorer: what scores it; ``extra``: metrics that the suite asks for beside the scorer's own.
        inputs: the stages whose arrays the scorer is given, by name.
        key: the hash of all that determines its numbers.
    """

    kind: CellKind
    defense: Component
    attack: Component | None
    recognizer: Component | None
    track: str
    scorer: str
    extra: tuple[str, ...] = ()
    inputs: Mapping[str, Stage] = field(default_factory=dict, repr=False)
    key: str = ""

    @property
    def adapted(self) -> bool:
        """Whether the recognizer is first fine-tuned on what the defense releases."""
        return self.kind == "utility" and self.recognizer is not None and bool(self.recognizer.config)

    @property
    def slot(self) -> Slot:
        """What it measures, on whichever defense and under whichever seed."""
        return (
            self.kind, self.attack.label if self.attack else "", self.recognizer.label if self.recognizer else ""
        )  # fmt: skip

    @property
    def title(self) -> str:
        """For progress lines: ``pixelate / linkage / dlib_resnet``."""
        parts = (self.defense.label, self.attack.label if self.attack else self.kind,
                 self.recognizer.label if self.recognizer else "")  # fmt: skip
        return " / ".join(part for part in parts if part)


@dataclass(frozen=True)
class Plan:
    """A suite resolved: every component with its version and full parameters, the cells and their stages.

    Attributes:
        ceiling: the defense that protects nothing; ``floor``: the one that releases nothing.
        published_seed: the suite's own seed, also where it runs under another.
    """

    suite: str
    title: str
    setting: Setting
    real_people: bool
    published_seed: int
    ceiling: Component
    floor: Component
    defenses: tuple[Component, ...]
    attacks: dict[str, Component]
    cells: tuple[Cell, ...]

    @property
    def dataset(self) -> Component:
        """The data set, its parameters without folders."""
        return self.setting.dataset

    @property
    def seed(self) -> int:
        """The seed that it runs under."""
        return self.setting.seed

    @property
    def stages(self) -> list[Stage]:
        """All that the cells need, each once, in an order in which they can be computed."""
        return needed(stage for cell in self.cells for stage in cell.inputs.values())

    @cached_property
    def first_to_need(self) -> Mapping[tuple[str, str], str]:
        """The key of the first cell that needs a stage, by the label of its defense and the stage's key."""
        found: dict[tuple[str, str], str] = {}
        for cell in self.cells:
            for stage in needed(cell.inputs.values()):
                found.setdefault((cell.defense.label, stage.key), cell.key)
        return found

    def published(self) -> PlanFile:
        """What ``plan.json`` says of it."""
        attacks = {label: _planned(one) for label, one in self.attacks.items()}
        rows = {one.label: one for one in (*self.defenses, *(cell.defense for cell in self.cells))}
        defenses = {
            label: PlannedDefense(
                component=one, track=track_of(one), control=registry.load("defense", one.name).card.control,
                unprotected=one.name == self.ceiling.name, seen=_seen_by(one),
            )
            for label, one in rows.items()
        }  # fmt: skip
        recognizers = {
            cell.recognizer.label: PlannedRecognizer(
                component=cell.recognizer, surrogate=cell.recognizer.name == self.setting.surrogate,
                adapted=cell.adapted, weak=not cell.adapted and recognizer_card(cell.recognizer.name).weak,
            )
            for cell in self.cells if cell.recognizer is not None
        }  # fmt: skip
        metrics = {
            name: metric_info(name).version
            for cell in self.cells for name in _scorer(cell.scorer, cell.extra).metrics
        }  # fmt: skip
        cells = [
            PlannedCell(
                key=cell.key, cell=cell.kind, defense=cell.defense.label,
                attack=cell.attack.label if cell.attack else "",
                recognizer=cell.recognizer.label if cell.recognizer else "", seed=self.seed,
            )
            for cell in self.cells
        ]  # fmt: skip
        table = PlannedTable(
            dataset=self.dataset, revision=self.setting.dataset_revision, real_people=self.real_people,
            seed=self.published_seed, protocol=self.setting.protocol.model_dump(mode="json"), defenses=defenses,
            attacks=attacks, recognizers=recognizers, metrics=metrics,
            cells=tuple(sorted(cells, key=lambda cell: cell.place)),
        )  # fmt: skip
        return PlanFile(suite=self.suite, title=self.title, tables={self.dataset.label: table})


def make_plan(
    suite: Suite, dataset: FaceDataset, *, named: Iterable[Entry] = (), plugins: tuple[Path, ...] = (),
    device: str = "cpu", wrapped: tuple[WrappedDefense, ...] = (), pickled: PickledDataset | None = None,
    published_seed: int | None = None, here: bool = False, trusted: bool = False,
) -> Plan:  # fmt: skip
    """Resolve a suite. Every name, key and parameter is checked here, before anything runs.

    Args:
        named: all attacks that the suite names, where only some of them run.
        published_seed: the suite's own seed, where it runs under another.
        here, trusted: as in ``Setting``.

    Raises:
        UserError: an unknown or invalid component, named with the nearest known one.
    """
    ceiling, floor = (component_of("defense", Entry(name=name)) for name in (suite.ceiling, suite.floor))
    defenses = tuple(component_of("defense", entry) for entry in suite.defense)
    attacks = {entry.label: component_of("attack", entry) for entry in suite.attack}
    recognizers = {source: recognizer_component(source) for source in suite.recognizers}
    _check_labels(recognizers)
    surrogate = recognizer_component(suite.surrogate) if suite.surrogate else None
    for attack in attacks.values():
        _check_sources(attack, attacks)
    _check_tracks((ceiling, floor, *defenses), attacks.values())
    for name in suite.metrics:
        metric_info(name)
    setting = Setting(
        seed=suite.seed, surrogate=surrogate.name if surrogate else "", protocol=suite.protocol,
        dataset=Component(
            label=suite.dataset.label, name=suite.dataset.name, version=dataset.version,
            config=_without_paths(suite.dataset.params) | _dropped(dataset, defenses),
        ),
        dataset_params=dict(suite.dataset.params), dataset_revision=dataset.revision,
        drop_duplicates=isinstance(dataset, WithoutCopies), device=device, plugins=plugins,
        external=tuple(sorted({*suite.recognizers, suite.surrogate} - {"", *recognizer_names()})), wrapped=wrapped,
        pickled=pickled, here=here, trusted=trusted,
    )  # fmt: skip
    all_named = {entry.label: component_of("attack", entry) for entry in named} | attacks
    graph = Graph(setting, ceiling, floor, all_named, attacks, recognizers.values())
    adapted = surrogate and Component(
        label=f"{surrogate.label}_adapted", name=surrogate.name, version=surrogate.version,
        config=dict(suite.protocol.adaptor),
    )  # fmt: skip
    only = {entry.label: entry.recognizers for entry in suite.attack}
    cells = [_cell("canary", ceiling, None, one, suite, graph) for one in recognizers.values()]
    for defense in sorted(defenses, key=lambda component: component.name != ceiling.name):  # Ceilings come first.
        measured = load_track(track_of(defense)).utilities(list(recognizers.values()), adapted)
        cells += [_cell("utility", defense, None, recognizer, suite, graph) for recognizer in measured]
        for attack in attacks.values():
            card: AttackCard = registry.load("attack", attack.name).card
            wanted = only[attack.label] or tuple(recognizers)
            mine = [r for source, r in recognizers.items() if source in wanted or r.label in wanted]
            chosen = mine if card.needs_recognizer else [None]
            cells += [_cell("attack", defense, attack, one, suite, graph) for one in chosen]
    return Plan(
        suite=suite.name, title=suite.title, setting=setting, real_people=dataset.card.real_people,
        published_seed=suite.seed if published_seed is None else published_seed, ceiling=ceiling, floor=floor,
        defenses=defenses, attacks=attacks, cells=tuple(cells),
    )  # fmt: skip


def training_splits(defenses: Iterable[Component]) -> list[Training]:
    """The splits that somebody trains on: the attacker's, and the defender's if one of the defenses learns."""
    learned = any(registry.load("defense", one.name).learns() for one in defenses)
    return ["attacker", "defender"] if learned else ["attacker"]


def track_of(defense: Component) -> str:
    """The track of a defense, which follows from what it releases."""
    return registry.track_of(registry.load("defense", defense.name))


def _seen_by(defense: Component) -> tuple[str, ...]:
    """The recognizers that a defense reads or was optimised against, as its track tells."""
    return load_track(track_of(defense)).seen(registry.load("defense", defense.name), defense.config)


def scorer_of(attack: Component) -> str:
    """The scorer of an attack's answers."""
    return registry.current_name("scorer", registry.load("attack", attack.name).card.measures)


def component_of(kind: registry.Kind, entry: Entry) -> Component:
    """The component of an entry, with all its parameters.

    Raises:
        UserError: it is unknown, or a parameter is wrong.
    """
    plugin = registry.build(kind, entry.name, entry.params)
    name = registry.current_name(kind, entry.name)
    config = plugin.config.model_dump(mode="json")
    return Component(label=entry.label, name=name, version=type(plugin).version, config=config)


def _cell(
    kind: CellKind, defense: Component, attack: Component | None, recognizer: Component | None, suite: Suite,
    graph: Graph,
) -> Cell:  # fmt: skip
    """The cell with its inputs and its key.

    The key follows from what its scorer computes and from the keys of its inputs, so that whatever determines a number
    is in it and nothing else: neither labels, nor metrics of other scorers, nor where it is computed.
    """
    name = VERIFICATION
    if attack is not None:
        name = scorer_of(attack)
    elif kind == "utility":
        name = load_track(track_of(defense)).utility_scorer
    extra = suite.metrics
    scorer = _scorer(name, extra)
    made = Cell(kind, defense, attack, recognizer, track_of(defense), name, extra)
    inputs = scorer.inputs(graph, made)
    if attack is not None:  # Its answer is checked, and its training log recorded.
        inputs["attack"] = graph.attack(defense, attack, recognizer)
    spec: dict[str, Any] = {
        "cell": kind, "scorer": name, **scorer.spec, "replicates": suite.protocol.replicates, "seed": suite.seed,
        "recognizer": recognizer.spec if recognizer else None,
        "inputs": {role: stage.key for role, stage in inputs.items()},
    }  # fmt: skip
    if attack is not None and inputs["attack"].spec["attack"] != attack.spec:  # Another's answers are this one's too.
        spec["attack"] = attack.spec
    return Cell(kind, defense, attack, recognizer, made.track, name, extra, inputs, digest(spec))


def _planned(attack: Component) -> PlannedAttack:
    """What ``plan.json`` says of an attack."""
    mounted: Attack = registry.build("attack", attack.name, attack.config)
    name = scorer_of(attack)
    scorer = _scorer(name, ())
    faces: Literal["", "rebuilt", "released", "unrelated"] = ""
    if scorer.shows_faces:
        faces = "unrelated" if scorer.ignores_target else "released" if mounted.card.shows_released else "rebuilt"
    return PlannedAttack(
        component=attack, scorer=name, sets=scorer.sets, faces=faces, shown=scorer.shown, shots=mounted.shots,
        sources=mounted.sources, from_embedding=scorer.from_embedding, live=mounted.card.live,
    )  # fmt: skip


def _scorer(name: str, extra: tuple[str, ...]) -> Scorer:
    found: Scorer = registry.load("scorer", name)(extra)
    return found


def _check_tracks(rows: Iterable[Component], attacks: Iterable[Component]) -> None:
    """Raises:
    UserError: rows of tracks whose releases are of different kinds, or an attack on what another track releases.
    """
    named = {track_of(row): row for row in rows}
    tracks = {name: load_track(name) for name in named}
    kinds = {tracks[name].stages or name if tracks[name].utility_scorer != VERIFICATION else "" for name in tracks}
    if len(kinds) > 1:
        which = ", ".join(f"'{row.label}' of track {name}" for name, row in sorted(named.items()))
        raise UserError(
            f"a suite has rows of one kind of release, got {which}",
            "Run a suite of its track:  ppfr-bench list suites",
        )
    for attack in attacks:
        card: AttackCard = registry.load("attack", attack.name).card
        for name, track in tracks.items():
            if not track.accepts_attack(name, card.tracks):
                raise UserError(
                    f"attack '{attack.label}' attacks what {_of_tracks(card)} release, and '{named[name].label}' is of "
                    f"track {name}",
                    "Choose another attack:  ppfr-bench list attacks",
                )


def _of_tracks(card: AttackCard) -> str:
    return " and ".join(card.tracks) or "images and representations"


def _dropped(dataset: FaceDataset, defenses: Iterable[Component]) -> dict[str, Any]:
    """For the record: the images that are left out of each split that is trained on, by name."""
    if not isinstance(dataset, WithoutCopies):
        return {}
    return {"drop_duplicates": {split: dataset.dropped(split) for split in training_splits(defenses)}}


def _check_sources(attack: Component, attacks: Mapping[str, Component]) -> None:
    """Raises:
    UserError: an attack starts from the reconstructions of one that does not run.
    """
    for label in registry.build("attack", attack.name, attack.config).sources:
        if label not in attacks:
            raise UserError(
                f"attack '{attack.label}' starts from '{label}', which this suite does not run",
                f"Add it to the suite, or choose one of: {', '.join(attacks)}.",
            )


def _check_labels(named: Mapping[str, Component]) -> None:
    labels = [component.label for component in named.values()]
    for source, component in named.items():
        if labels.count(component.label) > 1:
            raise UserError(
                f"two recognizers are labelled '{component.label}', one of them {source}", "Change one card's label."
            )


def _without_paths(params: Mapping[str, Any]) -> dict[str, Any]:
    """Folders say where the data lie, not what they are: they stay out of records."""
    return {name: value for name, value in params.items() if not name.endswith("root")}
