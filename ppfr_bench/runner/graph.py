"""The graph of a plan: every stage that its cells need, each once, with what it is computed from.

Nothing asks for a stage from inside another: what there is to compute can be printed, counted, estimated and scheduled
before any of it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from ppfr_bench import device, registry
from ppfr_bench.api import Attack, Defense, Material, Scope
from ppfr_bench.learning.adaptation import StudentConfig, student_materials
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.records.record import Component
from ppfr_bench.scorers.base import Scorer
from ppfr_bench.stages.attack import declared
from ppfr_bench.stages.context import FRESH, Setting, Split
from ppfr_bench.stages.floor import FACES, SIGMAS
from ppfr_bench.stages.spec import Stage
from ppfr_bench.suites import Protocol
from ppfr_bench.tracks.base import load_track


class Graph:
    """Makes stages of one setting.

    Args:
        ceiling: the defense that protects nothing; ``floor``: the one that releases nothing.
        attacks: by label, all that the suite names, whether they run or not: where several start from the same, it is
            computed in the view of the first.
        running: those of them that run, by label.
        recognizers: of the suite, among which a scorer may choose those that judge.
    """

    def __init__(
        self, setting: Setting, ceiling: Component, floor: Component, attacks: Mapping[str, Component],
        running: Mapping[str, Component], recognizers: Iterable[Component] = (),
    ) -> None:  # fmt: skip
        self.setting, self.ceiling, self.floor = setting, ceiling, floor
        self.recognizers = tuple(recognizers)
        self._attacks, self._running = dict(attacks), dict(running)
        self._stages: dict[str, Stage] = {}
        self._memo: dict[str, Stage] = {}
        self._plugins: dict[str, Any] = {}
        self._device = device.device_class(setting.device)

    @property
    def stages(self) -> list[Stage]:
        """All that were asked for, each once."""
        return list(self._stages.values())

    # Releases ------------------------------------------------------------------------------------------------------

    def check(self, defense: Component) -> Stage:
        """Whether the defense keeps its contract; what it notes is no part of any number."""
        spec = {"defense": defense.spec, "dataset": self.setting.dataset_revision, "seed": self.setting.seed}
        return self.stage("check", spec, how={"label": defense.label})

    def release(self, defense: Component, split: Split, shot: int = 0) -> Stage:
        """``images``: one protected version of a split."""
        spec = {"defense": defense.spec, "dataset": self.setting.dataset_revision, "split": split, "shot": shot,
                "seed": self.setting.seed, "version": 2}  # fmt: skip
        if share := type(self._defense(defense)).card.clear_share:  # The share decides what is a leak.
            spec["clear_share"] = share
        threads = self.setting.protocol.threads
        if type(self._defense(defense)).learns() and threads != Protocol().threads:  # Sums of its training are split.
            spec["threads"] = threads
        return self.stage("protected", spec, gates=(self.check(defense),), how={"label": defense.label})

    # Embeddings ----------------------------------------------------------------------------------------------------

    def embed(self, recognizer: Component, of: str) -> Stage:
        """``embeddings`` of clear images: ``evaluation``, ``canary`` or ``calibration``."""
        spec = {"recognizer": recognizer.spec, "of": of, "dataset": self.setting.dataset_revision}
        return self.stage("embed", spec)

    def embed_release(self, recognizer: Component, defense: Component) -> Stage:
        """``embeddings`` of the evaluation images as the defense releases them, rendered if they are no images."""
        spec: dict[str, Any] = {"recognizer": recognizer.spec, "defense": defense.spec}
        return self.stage("embed", spec, {"released": self.release(defense, "evaluation")})

    def adapt(self, recognizer: Component, defense: Component) -> Stage:
        """``embeddings`` of the same by a recognizer that was fine-tuned on the defense."""
        config = StudentConfig(**recognizer.config)
        scope = Scope(1, type(self._defense(defense)).releases_image())
        how = {"adaptor": dict(recognizer.config)}
        upstream = self._seen(defense, defense, 1) | {
            f"material {material.key}": self._material(material, defense, defense, how, 1)
            for material in student_materials(scope, config)
        }
        return self.stage("adapt", self._attack_spec(defense, defense) | {"recognizer": recognizer.spec}, upstream)

    # Attacks -------------------------------------------------------------------------------------------------------

    def attack(self, defense: Component, attack: Component, recognizer: Component | None = None) -> Stage:
        """``answer`` on the targets as the defense releases them, of the first attack that answers the same as this."""
        memo = canonical_json(["attack", *(one.spec if one else None for one in (defense, attack, recognizer))])
        if memo not in self._memo:
            self._memo[memo] = self._mounted(defense, self._first_alike(defense, attack), recognizer)
        return self._memo[memo]

    def _first_alike(self, defense: Component, attack: Component) -> Component:
        """The first attack of the suite that answers the same on a defense; the attack itself, if there is none."""
        alike = [one for one in self._attacks.values() if (one.name, one.version) == (attack.name, attack.version)]
        own = self._decided_by(defense, attack)
        return next((one for one in alike if self._decided_by(defense, one) == own), attack)

    def _decided_by(self, defense: Component, attack: Component) -> str:
        mounted = self._attack(attack)
        return canonical_json(mounted.decided_by(Scope(self.shots(defense, mounted), self._releases_image(defense))))

    def _mounted(self, defense: Component, attack: Component, recognizer: Component | None) -> Stage:
        mounted: Attack = self._attack(attack)
        card, known = mounted.card, self._known(defense, mounted)
        if module := load_track(registry.track_of(type(self._defense(defense)))).stages:
            upstream = import_module(module).upstream(self, defense, mounted, recognizer)
        else:
            upstream = self._upstream(defense, mounted, known)
        spec = self._attack_spec(defense, known) | {
            "attack": attack.spec, "recognizer": recognizer.spec if recognizer else None
        }  # fmt: skip
        if card.needs_surrogate:
            spec["surrogate"] = self.setting.surrogate
        return self.stage("attack", spec, upstream)

    def _upstream(self, defense: Component, mounted: Attack, known: Component) -> dict[str, Stage]:
        """What an attack on images or representations is computed from."""
        card = mounted.card
        shots = self.shots(defense, mounted)
        aware = card.knowledge != "oblivious"
        upstream = self._seen(defense, known if aware else None, shots)
        if card.needs_protected_gallery:
            upstream["gallery"] = self.release(defense, "gallery")
        for label in mounted.sources:
            upstream[f"source {label}"] = self.attack(defense, self._running[label])
        scope = Scope(shots, type(self._defense(defense)).releases_image())
        for material in mounted.starts_from(scope):
            upstream[f"material {material.key}"] = self._declared(material, defense, known)
        return upstream

    def shots(self, defense: Component, mounted: Attack) -> int:
        """Releases of each target that the attacker holds; one where every release is the same."""
        fresh = self._defense(defense).randomness in FRESH
        return max(mounted.shots, self.setting.protocol.shots) if fresh else 1

    def mean_faces(self) -> Stage:
        """``answer``: faces that ignore the target, ``mean_face_count`` of them."""
        return self.stage(
            "mean_faces", {"dataset": self.setting.dataset_revision, "sigmas": list(SIGMAS), "faces": FACES}
        )

    mean_face_count = len(SIGMAS) + FACES

    def compared(
        self, answered: Stage, name: str, scorer: Scorer, row: int | None = None, label: str = "",
        another: bool = False,
    ) -> Stage:  # fmt: skip
        """What a scorer keeps of an answer beside the originals; of one ``row`` of it, which then stands for all.

        Args:
            label: of the attack that has answered, for messages.
            another: each target is given the answer to another person's release.
        """
        spec = {"scorer": name, **scorer.spec, "dataset": self.setting.dataset_revision}
        if row is not None:
            spec["row"] = row
        if another:
            spec["another"] = True
        return self.stage("compared", spec, {"answer": answered}, how={"extra": list(scorer.extra), "label": label})

    # What they share -----------------------------------------------------------------------------------------------

    def stage(
        self, kind: str, spec: Mapping[str, Any], upstream: Mapping[str, Stage] | None = None,
        gates: tuple[Stage, ...] = (), how: Mapping[str, Any] | None = None,
    ) -> Stage:  # fmt: skip
        """A stage of this graph, the same for the same spec and upstream stages: see ``Stage``."""
        made = Stage(kind, spec, upstream or {}, gates, self._device, how or {})
        return self._stages.setdefault(made.key, made)

    def _seen(self, defense: Component, known: Component | None, shots: int) -> dict[str, Stage]:
        """Releases of the targets, which are rows of the evaluation release, and of the attacker's own images."""
        seen = {"evaluation": self.release(defense, "evaluation")}
        seen |= {f"shot {shot}": self.release(defense, "targets", shot) for shot in range(1, shots)}
        if known is not None:
            seen["own"] = self.release(known, "attacker")
        return seen

    def _attack_spec(self, defense: Component, known: Component) -> dict[str, Any]:
        return {
            "defense": defense.spec, "known": known.spec, "dataset": self.setting.dataset_revision,
            "seed": self.setting.seed, "threads": self.setting.protocol.threads,
        }  # fmt: skip

    def _declared(self, material: Material, defense: Component, known: Component) -> Stage:
        """The stage of a material, in the view of the first attack of the suite that declares it."""
        memo = canonical_json([material.key, defense.spec, known.spec])
        if memo not in self._memo:
            self._memo[memo] = self._by_first(material, defense, known)
        return self._memo[memo]

    def material(self, material: Material, defense: Component) -> Stage:
        """What an attack starts from, of clear images, for a track whose views the graph does not make."""
        return self._declared(material, defense, defense)

    def _releases_image(self, defense: Component) -> bool:
        kind = type(self._defense(defense))
        return issubclass(kind, Defense) and kind.releases_image()

    def _by_first(self, material: Material, defense: Component, known: Component) -> Stage:
        images = self._releases_image(defense)
        for component in self._attacks.values():
            mounted = self._attack(component)
            if mounted.card.knowledge == "oblivious" or self._known(defense, mounted) != known:
                continue
            shots = self.shots(defense, mounted)
            for found in declared(mounted.starts_from(Scope(shots, images))):
                if found.key == material.key:
                    return self._material(found, defense, known, {"declared_by": component.spec}, shots)
        raise LookupError("no attack of the suite declares it")

    def _material(
        self, material: Material, defense: Component, known: Component, how: Mapping[str, Any], shots: int
    ) -> Stage:
        shared = material.of_clear_images
        upstream = {} if shared else self._seen(defense, known, shots)
        for earlier in material.starts_from:
            by_attack = self._first_declaration(earlier, defense, known)
            upstream[f"material {earlier.key}"] = by_attack or self._material(earlier, defense, known, how, shots)
        spec = self._attack_spec(defense, known) | {"name": material.name, "spec": dict(material.spec)}
        if shared:  # It is the same for all defenses.
            del spec["defense"], spec["known"]
            how = {**how, "scope": [shots, self._releases_image(defense)]}
        elif material.queries and "declared_by" in how:  # The oracle's draws are those of the attack that asks it.
            spec["asked_by"] = how["declared_by"]
        if material.needs_surrogate:
            spec["surrogate"] = self.setting.surrogate
        return self.stage("material", spec, upstream, how=how)

    def _first_declaration(self, material: Material, defense: Component, known: Component) -> Stage | None:
        try:
            return self._declared(material, defense, known)
        except LookupError:
            return None

    def _known(self, defense: Component, mounted: Attack) -> Component:
        """The defense as the attacker knows it: under another key, for one that does not hold the targets'."""
        return other_key(defense) if mounted.key_access == "other" else defense

    def _defense(self, component: Component) -> Defense:
        found: Defense = self._built("defense", component)
        return found

    def _attack(self, component: Component) -> Attack:
        found: Attack = self._built("attack", component)
        return found

    def _built(self, kind: registry.Kind, component: Component) -> Any:
        key = canonical_json([kind, component.spec])
        if key not in self._plugins:
            self._plugins[key] = registry.build(kind, component.name, component.config)
        return self._plugins[key]


def needed(stages: Iterable[Stage]) -> list[Stage]:
    """Stages and all that they need, each once, in an order in which they can be computed."""
    found: dict[str, Stage] = {}
    for stage in stages:
        for one in stage.before():
            found.setdefault(one.key, one)
    return list(found.values())


def other_key(defense: Component) -> Component:
    """The defense under another key, or itself where its parameters hold no ``secret``."""
    secret = defense.config.get("secret")
    if not isinstance(secret, int):
        return defense
    return defense.model_copy(update={"config": defense.config | {"secret": secret + 1}})
