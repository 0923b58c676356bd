"""The lab of one process: every stage between a data set and a score, each computed once and kept by content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined]
from torch import nn

from ppfr_bench import conformance, contamination, registry
from ppfr_bench.api import (
    SIZE,
    Arrays,
    Attack,
    AttackerView,
    Defense,
    Differentiable,
    FaceDataset,
    Faces,
    Unavailable,
    to_bytes,
    to_float,
)  # fmt: skip
from ppfr_bench.assets import cache_dir
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import METRICS, image_metric_names, load_image_metric
from ppfr_bench.metrics.attributes import ATTRIBUTES
from ppfr_bench.metrics.verification import best_threshold
from ppfr_bench.recognizers import load_recognizer
from ppfr_bench.recognizers.store import CachedEmbedder, EmbeddingStore
from ppfr_bench.results import Component, digest
from ppfr_bench.runner.cache import Stage, StageCache, StageWriter
from ppfr_bench.runner.plan import Plan, identity_of, training_splits

log = logging.getLogger(__name__)
Split = Literal["evaluation", "attacker", "targets", "gallery"]
FRESH = ("per_call", "per_image_key")  # contracts under which two releases of one photo differ
Images = npt.NDArray[np.uint8]
CALIBRATION_IDENTITIES = 100
BLIND_SIGMAS = (0, 1, 2, 4)  # pixels, of the Gaussians that soften the mean face


class Rejected(UserError):
    """A defense broke the contract or let clear images out: it is not attacked, it is refused."""


class LiveOracle:
    """The defense as a service: protects what the attacker sends, fresh randomness each time, and counts."""

    def __init__(self, protect: Callable[[Images, torch.Generator], Images], generator: torch.Generator) -> None:
        self._protect = protect
        self._generator = generator
        self._queries = 0

    @property
    def queries(self) -> int:
        return self._queries

    def protect(self, images: Images) -> Images:
        self._queries += len(images)
        return self._protect(images, self._generator)


class SharedWorkbench:
    """What the attacks on one defense share, kept as stages; apart for those who know it under another key."""

    def __init__(self, lab: Lab, defense: Component, known: Component) -> None:
        self._lab, self._defense, self._known = lab, defense, known

    def share(self, name: str, spec: Mapping[str, Any], compute: Callable[[torch.Generator], Arrays]) -> Arrays:
        """``compute``'s arrays, computed once a defense."""
        lab = self._lab
        full = {"name": name, "shared": dict(spec), "defense": identity_of(self._defense), "seed": lab.plan.seed,
                "dataset": lab.plan.dataset_revision, "threads": lab.plan.protocol.threads}  # fmt: skip
        if self._known != self._defense:
            full["known"] = identity_of(self._known)

        def stage(writer: StageWriter) -> None:
            arrays = compute(lab.generator("shared", full))
            for key, array in arrays.items():
                writer.save(key, array)
            writer.meta["arrays"] = sorted(arrays)

        found = lab.cache.get("shared", full, stage)
        return {key: found[key] for key in found.meta["arrays"]}


class Lab:
    """Stages of one plan, in one process."""

    def __init__(self, plan: Plan, dataset: FaceDataset) -> None:
        self.plan = plan
        self.dataset = dataset
        self.cache = StageCache(cache_dir() / "stages")
        self._defenses: dict[str, Defense] = {}

    @cached_property
    def store(self) -> EmbeddingStore:
        return EmbeddingStore(cache_dir() / "embeddings.sqlite")

    def generator(self, *purpose: Any) -> torch.Generator:
        """A generator that depends on the suite's seed and the purpose, and on nothing else."""
        seed = int(digest([self.plan.seed, *purpose])[:15], 16)
        return torch.Generator().manual_seed(seed)

    def audit(self) -> None:
        """Refuse data whose measured people or photographs are also trained on; looked at once a data set.

        Raises:
            UserError: with the images.
        """
        splits, look = training_splits(self.plan.defenses), contamination.kept_fingerprints
        spec = {"dataset": self.plan.dataset_revision, "splits": splits, "distance": contamination.DISTANCE}
        self.cache.get(
            "disjoint", spec, lambda writer: contamination.check_disjoint(self.dataset, splits, prints_of=look)
        )

    # Defense ---------------------------------------------------------------------------------------------------

    def defense(self, component: Component) -> Defense:
        """The defense, fitted on the defender's identities if it learns; kept for the life of the process."""
        key = digest(identity_of(component))
        if key not in self._defenses:
            defense = registry.build("defense", component.name, component.config)
            if type(defense).fit is not Defense.fit:
                defense.fit(self.dataset.defender, self.generator("fit", identity_of(component)))
            self._defenses[key] = defense
        return self._defenses[key]

    def _released(self, component: Component, images: Images, generator: torch.Generator) -> Images:
        """What leaves the defense, in 8 bits: images or a representation, or an error if it is no such thing."""
        batch = to_float(images)
        with torch.no_grad():  # not inference mode: what a defense keeps of it would bar gradients later
            out = self.defense(component).protect(batch, generator)
        if wrong := conformance.unfit(self.defense(component), out, batch):
            raise Rejected(f"defense {component.label}: {wrong}")
        return to_bytes(out)

    def check(self, component: Component) -> Stage:
        """Check the contract on a few evaluation images, once a defense.

        Raises:
            Rejected: with every finding.
        """

        def compute(writer: StageWriter) -> None:
            if not type(self.defense(component)).card.live:
                writer.meta |= {"findings": [], "flags": ["not_live"]}
                return
            count = min(8, len(self.dataset.evaluation))
            images, names = (
                self.dataset.evaluation.load(range(count)),
                list(self.dataset.evaluation.names[:count]),
            )
            found = conformance.check_defense(self.defense(component), images, names, self.plan.seed)
            writer.meta["findings"] = [f"{finding.code}: {finding.message}" for finding in found]
            defense = self.defense(component)
            writer.meta["flags"] = [] if found else list(conformance.randomness_flags(defense, images, self.plan.seed))

        spec = {
            "defense": identity_of(component),
            "dataset": self.plan.dataset_revision,
            "seed": self.plan.seed,
        }
        stage = self.cache.get("check", spec, compute)
        if findings := stage.meta["findings"]:
            raise Rejected(f"defense {component.label} breaks the contract: {'; '.join(findings)}",
                           f"See every check:  ppfr-bench check {component.name}")  # fmt: skip
        return stage

    def randomness_flags(self, component: Component) -> list[str]:
        """What is odd about the defense's randomness, by name of its flag."""
        return list(self.check(component).meta["flags"])

    def release(self, component: Component, split: Split, shot: int = 0) -> Stage:
        """One protected version of a split: ``images`` uint8 (n, 3, 112, 112), or (n, c, h, w) of a representation.

        Checked for clear images on the way.

        Raises:
            Rejected: the defense breaks the contract, or an image (named) is released clear or half clear.
        """
        self.check(component)
        faces = self.faces(split)
        card = type(self.defense(component)).card

        def compute(writer: StageWriter) -> None:
            images: Images | None = None
            generator = self.generator("protect", self.plan.dataset_revision, split, shot)
            leaked: list[str] = []
            picture = self.picture(component)
            start = 0
            for batch in faces.batches(self.plan.protocol.batch):
                stop = start + len(batch)
                released = self._released(component, batch, generator)
                if images is None:
                    images = writer.open("images", (len(faces), *released.shape[1:]), np.uint8)
                images[start:stop] = released
                if not card.control:
                    names = list(faces.names[start:stop])
                    leaked += conformance.leaked_images(batch, picture(released), names, card.clear_share)
                start = stop
            writer.meta |= {"images": len(faces), "leaked": leaked}

        spec = {"defense": identity_of(component), "dataset": self.plan.dataset_revision, "split": split, "shot": shot,
                "seed": self.plan.seed}  # fmt: skip
        if card.clear_share:  # decides what is a leak
            spec["clear_share"] = card.clear_share
        stage = self.cache.get("release", spec, compute)
        if leaked := stage.meta["leaked"]:
            some = ", ".join(leaked[:5]) + (f" and {len(leaked) - 5} more" if len(leaked) > 5 else "")
            raise Rejected(f"defense {component.label} lets clear images out: {some} ({len(leaked)} of {len(faces)})",
                           "On failure a defense must raise, never release its input.")  # fmt: skip
        return stage

    def faces(self, split: Split) -> Faces:
        """The clear images of a split."""
        if split in ("targets", "gallery"):
            from ppfr_bench.datasets.faces import subset

            chosen = self.dataset.targets if split == "targets" else self.dataset.gallery
            return subset(self.dataset.evaluation, chosen)
        return self.dataset.evaluation if split == "evaluation" else self.dataset.attacker

    # Recognizers -----------------------------------------------------------------------------------------------

    def embedder(self, component: Component) -> CachedEmbedder:
        return CachedEmbedder(component.name, load_recognizer(component.name), self.store)

    def embeddings(self, recognizer: Component, of: str, batches: Callable[[], Iterator[Images]]) -> Stage:
        """``embeddings`` (n, d) of the images with content key ``of``."""
        embedder = self.embedder(recognizer)

        def compute(writer: StageWriter) -> None:
            parts = [embedder.embed(batch) for batch in batches()]
            writer.save("embeddings", np.concatenate(parts).astype(np.float32))

        return self.cache.get("embed", {"recognizer": identity_of(recognizer), "of": of}, compute)

    def clear_embeddings(self, recognizer: Component, which: Literal["evaluation", "canary"] = "evaluation") -> Stage:
        faces = self.dataset.evaluation if which == "evaluation" else self.dataset.canary[0]
        batches = lambda: faces.batches(self.plan.protocol.batch)  # noqa: E731 - a thunk, passed on once
        return self.embeddings(recognizer, f"{which} of {self.plan.dataset_revision}", batches)

    def released_embeddings(self, recognizer: Component, defense: Component) -> Stage:
        release, picture = self.release(defense, "evaluation"), self.picture(defense)
        of = f"picture of {release.key}" if self.represents(defense) else release.key
        batches = lambda: map(picture, chunks(release["images"], self.plan.protocol.batch))  # noqa: E731 - a thunk, passed on once
        return self.embeddings(recognizer, of, batches)

    def represents(self, defense: Component) -> bool:
        """Whether the defense releases no image but a representation."""
        return type(self.defense(defense)).card.output == "representation"

    def picture(self, defense: Component) -> Callable[[Images], Images]:
        """What makes an image of a release, uint8 (n, 3, 112, 112) to the same."""
        if not self.represents(defense):
            return np.asarray

        def picture(released: Images) -> Images:
            with torch.no_grad():
                parts = [
                    self.defense(defense).picture(to_float(part)) for part in chunks(released, self.plan.protocol.batch)
                ]
            return np.concatenate([to_bytes(part[..., :SIZE, :SIZE]) for part in parts])

        return picture

    def adapted_embeddings(self, recognizer: Component, defense: Component) -> Stage:
        """``embeddings`` of what is released of the evaluation images, by a recognizer fine-tuned on the defense.

        Learns from protected images of the attacker's people, who are not evaluated. What of it came out best on some
        of them held out, adaptor alone or with a head, is recorded in ``log``.

        Raises:
            Unavailable: the suite has no recognizer with gradients.
        """
        adaptation = import_module("ppfr_bench.attacks._adaptation")  # what attackers use: it is as good as theirs
        released = self.release(defense, "evaluation")["images"]
        protected, surrogate = self.release(defense, "attacker")["images"], self.surrogate()
        purpose = ("adapted", identity_of(recognizer), identity_of(defense), self.plan.dataset_revision)

        def compute(writer: StageWriter) -> None:
            view = AttackerView(
                knowledge="aware", auxiliary=self.dataset.attacker, targets=self._targets(defense, 1),
                auxiliary_protected=protected, surrogate=surrogate, workbench=SharedWorkbench(self, defense, defense),
                picture=self.picture(defense), representation=self.represents(defense),
            )  # fmt: skip
            adapted = adaptation.adapt(view, np.asarray(released), adaptation.StudentConfig(**recognizer.config))
            identities = self.dataset.attacker.identities
            held = adaptation.judges(identities, self.generator(*purpose))
            choice = adaptation.choose_head(adapted.own, adapted.own, identities, held, to_clear=False)
            alone = adaptation.share_named(adapted.own[held] @ adapted.own[held].T, identities[held])
            found = choice.head.probes(adapted.released) if choice.share > alone else adapted.released
            writer.save("embeddings", found.astype(np.float32))
            writer.meta["log"] = adapted.log | {"head": choice.note, "without_head_rank_1": round(alone, 4)}

        spec = {
            "defense": identity_of(defense), "recognizer": identity_of(recognizer), "seed": self.plan.seed,
            "dataset": self.plan.dataset_revision, "threads": self.plan.protocol.threads, "version": 1,
        }  # fmt: skip
        return self.cache.get("adapted", spec, compute)

    def frozen_threshold(self, recognizer: Component) -> float:
        """The best threshold on clear images of the attacker's people: what an untouched deployment would keep."""
        identities = self.dataset.attacker.identities
        order = np.argsort(identities, kind="stable")
        _, first, counts = np.unique(identities[order], return_index=True, return_counts=True)
        starts = first[counts >= 2][:CALIBRATION_IDENTITIES]
        indices = np.concatenate([order[starts], order[starts + 1]])
        faces = self.dataset.attacker
        batches = lambda: (faces.load(part) for part in chunks(indices, self.plan.protocol.batch))  # noqa: E731
        stage = self.embeddings(recognizer, f"calibration of {self.plan.dataset_revision}", batches)
        left, right = np.split(stage["embeddings"].astype(np.float64), 2)
        scores = load_recognizer(recognizer.name).similarity_matrix(left, right)
        genuine, impostor = scores.diagonal(), scores[~np.eye(len(scores), dtype=bool)]
        # As many impostors as genuine pairs, evenly spaced in rank, so that both errors weigh the same.
        impostor = np.sort(impostor)[:: max(1, len(impostor) // len(genuine))]
        scores = np.concatenate([genuine, impostor])
        return float(best_threshold(scores, np.arange(len(scores)) < len(genuine)))

    # Attacks ---------------------------------------------------------------------------------------------------

    def attack(self, defense: Component, component: Component, recognizer: Component | None = None) -> Stage:
        """The attacker's ``answer`` on the targets: images uint8 (n, 3, 112, 112) or similarities (n, gallery)."""
        attack: Attack = registry.build("attack", component.name, component.config)
        card = attack.card
        aware = card.knowledge != "oblivious"
        targets = self._targets(defense, max(attack.shots, self.plan.protocol.shots))
        protected_gallery = self.release(defense, "gallery")["images"] if card.needs_protected_gallery else None
        surrogate = self.surrogate() if card.needs_surrogate else None
        reconstructions = {label: self.attack(defense, self.plan.attacks[label])["answer"] for label in attack.sources}
        known = other_key(defense) if attack.key == "other" else defense
        protected = self.release(known, "attacker")["images"] if aware else None
        purpose = ("attack", identity_of(component), identity_of(defense), self.plan.dataset_revision)

        def compute(writer: StageWriter) -> None:
            oracle = LiveOracle(lambda x, g: self._released(known, x, g), self.generator("oracle", *purpose))
            view = AttackerView(
                knowledge=card.knowledge,
                auxiliary=self.dataset.attacker,
                targets=targets,
                auxiliary_protected=protected,
                oracle=oracle if aware else None,
                gallery=self.dataset.evaluation.load(self.dataset.gallery) if card.needs_gallery else None,
                recognizer=self.embedder(recognizer) if recognizer is not None else None,
                defense=self.defense(known) if card.knowledge == "informed" else None,
                reconstructions=reconstructions,
                protected_gallery=protected_gallery,
                surrogate=surrogate,
                workbench=SharedWorkbench(self, defense, known),
                picture=self.picture(defense),
                representation=self.represents(defense),
            )
            attack.fit(view, self.generator(*purpose))
            answer = np.asarray(attack.run(view))
            self._check_answer(component, answer, card.measures)
            writer.save("answer", answer)
            queries = oracle.queries + (len(protected) if card.learned and protected is not None else 0)
            writer.meta |= {"log": attack.log, "queries": queries}

        chain = [identity_of(self.plan.attacks[label]) for label in attack.sources]
        spec = {
            "attack": identity_of(component), "sources": chain, "defense": identity_of(defense), "seed": self.plan.seed,
            "recognizer": identity_of(recognizer) if recognizer else None, "dataset": self.plan.dataset_revision,
            "shots": self.plan.protocol.shots, "threads": self.plan.protocol.threads,
        }  # fmt: skip
        return self.cache.get("attack", spec, compute)

    def _targets(self, defense: Component, shots: int) -> Images:
        """The protected targets, uint8 (shots, n, ...) as released; one shot where every release is the same."""
        if self.defense(defense).randomness not in FRESH:
            shots = 1
        found = [self.release(defense, "evaluation")["images"][self.dataset.targets]]
        found += [self.release(defense, "targets", shot)["images"] for shot in range(1, shots)]
        return np.stack(found)

    @cache  # noqa: B019 - a lab lives as long as its process
    def surrogate(self) -> nn.Module:
        """The suite's surrogate recognizer with gradients, its weights frozen.

        Raises:
            Unavailable: the suite names none, or it has none to give.
        """
        name = self.plan.surrogate
        recognizer = load_recognizer(name) if name else None
        if not isinstance(recognizer, Differentiable):
            raise Unavailable(f"no recognizer with gradients: surrogate is {name or 'not set'}",
                              'Name one in the suite:  surrogate = "faceplugin"')  # fmt: skip
        return recognizer.differentiable()

    def _check_answer(self, component: Component, answer: npt.NDArray[Any], measures: str) -> None:
        targets, gallery = len(self.dataset.targets), len(self.dataset.gallery)
        images = measures in ("appearance", "control")
        shape: tuple[int, ...] = (targets, gallery)
        if images:
            shape = (targets, 3, SIZE, SIZE)
        elif measures == "attributes":
            shape = (targets, len(ATTRIBUTES))
        if answer.shape != shape or images != (answer.dtype == np.uint8):
            raise UserError(
                f"attack {component.label}: expected {'uint8' if images else 'float'} {shape}, "
                f"got {answer.dtype} {answer.shape}"
            )
        if not np.isfinite(answer).all():
            raise UserError(f"attack {component.label}: answered NaN or infinite values")

    def blind_answers(self) -> Images:
        """The mean of the attacker's own images, sharp and softened, uint8 (k, 3, 112, 112): answers without looking.

        Softened ones as well, as some measures prefer them: a rebuilding that is only as smooth has learnt nothing.
        """

        def compute(writer: StageWriter) -> None:
            faces, total = self.dataset.attacker, np.zeros((3, SIZE, SIZE))
            for batch in faces.batches(self.plan.protocol.batch):
                total += batch.sum(axis=0, dtype=np.float64)
            soft = [gaussian_filter(total / len(faces), (0, sigma, sigma)) for sigma in BLIND_SIGMAS]
            writer.save("answers", np.stack(soft).round().astype(np.uint8))

        spec = {"dataset": self.plan.dataset_revision, "sigmas": BLIND_SIGMAS}
        return self.cache.get("blind", spec, compute)["answers"]

    def blind_likeness(self, attack: Component) -> dict[str, npt.NDArray[np.float64]]:
        """Every image metric (n targets,) of the blind answer that does best on it.

        Among them what the attack itself answers where a black picture is released: trained to rebuild sharp faces, it
        has learnt what faces look like, which LPIPS rewards and which is not a leak.
        """
        stages = [
            self.likeness(f"blind, sigma {sigma}", answer[None])
            for sigma, answer in zip(BLIND_SIGMAS, self.blind_answers(), strict=True)
        ]
        alone = self.attack(self.plan.blackout, attack)
        stages.append(self.likeness(alone.key, alone["answer"]))
        best = {}
        for name in image_metric_names():
            sign = -1 if METRICS[name].direction == "lower_is_better" else 1
            best[name] = max((np.asarray(stage[name]) for stage in stages), key=lambda values: sign * values.mean())
        return best

    def likeness(self, of: str, answer: Images) -> Stage:
        """Every image metric of an answer against the originals, an array (n targets,) each.

        An answer of one image stands for all targets (the blind baseline).
        """
        targets, evaluation, size = self.dataset.targets, self.dataset.evaluation, self.plan.protocol.batch

        def compute(writer: StageWriter) -> None:
            for name in image_metric_names():
                metric, values = load_image_metric(name), []
                for part in chunks(np.arange(len(targets)), size):
                    guess = answer[part] if len(answer) > 1 else np.repeat(answer, len(part), axis=0)
                    values.append(metric.values(to_float(guess), to_float(evaluation.load(targets[part]))))
                writer.save(name, np.concatenate(values))

        versions = {name: METRICS[name].version for name in image_metric_names()}
        return self.cache.get(
            "likeness", {"of": of, "dataset": self.plan.dataset_revision, "metrics": versions}, compute
        )


def other_key(defense: Component) -> Component:
    """The defense under another key, or itself where its parameters hold no ``secret``."""
    secret = defense.config.get("secret")
    if not isinstance(secret, int):
        return defense
    return defense.model_copy(update={"config": defense.config | {"secret": secret + 1}})


def chunks(array: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    """Consecutive slices of at most ``size`` rows, the last included."""
    for start in range(0, len(array), size):
        yield np.asarray(array[start : start + size])
