"""An attack on what a defense releases, and what attacks start from: the attacker's side, which sees no original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from ppfr_bench import registry
from ppfr_bench.api import (
    Answers,
    Arrays,
    Attack,
    AttackCard,
    AttackerView,
    ByteArray,
    KeyAccess,
    Material,
    Scope,
    TrainingLog,
    clear_view,
)
from ppfr_bench.errors import UserError
from ppfr_bench.learning import adaptation
from ppfr_bench.learning.adaptation import StudentConfig
from ppfr_bench.stages.context import Context
from ppfr_bench.stages.release import release
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer
from ppfr_bench.suites import explain

Inputs = Mapping[str, Output]
ADAPTOR = AttackCard(  # An aware attacker has all that fine-tuning a recognizer on releases takes.
    title="Fine-tuned recognizer", family="adaptation", reference="ppfr-bench", licence="MIT", measures="",
    knowledge="aware", learned=True, needs_surrogate=True,
)  # fmt: skip


class LiveOracle:
    """The defense as a service: protects what the attacker sends, fresh randomness each time, and counts.

    A defense is given what an attacker sends as it is given the images that are measured, one draw later each time.
    """

    def __init__(self, protect: Callable[[ByteArray, int], ByteArray]) -> None:
        self._protect = protect
        self._calls = self._queries = 0

    @property
    def queries(self) -> int:
        """Images that were sent so far."""
        return self._queries

    def protect(self, images: ByteArray) -> ByteArray:
        """uint8 (n, 3, 112, 112) -> what is released of them."""
        self._queries += len(images)
        self._calls += 1
        return self._protect(images, self._calls)


def attack(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``answer``: images uint8 (n, 3, 112, 112), similarities (n, gallery), or whatever the scorer of the attack reads.

    Beside it are the answers by measure and by budget, if there are any, by the names of ``Answers.arrays``. Its notes
    say how many targets were ``repeated``: a defense that can tell a check from a run would draw anew for checks alone.

    Raises:
        UserError: the attack does not say what it has to of its training.
    """
    spec = job.spec
    purpose = ("attack", spec["attack"], spec["defense"], spec["dataset"])
    mounted: Attack = build(spec["attack"])
    if module := registry.load("track", registry.track_of(registry.load("defense", spec["defense"]["name"]))).stages:
        view = asked = import_module(module).view(mounted.card, job, inputs, context)
    else:
        asked = _oracle(context, spec["known"])
        view = attacker_view(mounted.card, job, inputs, context, asked, mounted.key_access)
    mounted.fit(view, context.generator(*purpose))
    answers = Answers.of(mounted.run(view))
    try:
        training = TrainingLog.of(mounted.log)
    except ValidationError as error:
        raise UserError(
            f"attack {spec['attack']['name']}: its log: {explain(error, TrainingLog)}",
            'An attack tells how many releases of each target it made use of:  self.log["shots"] = 1',
        ) from error
    for name, array in answers.arrays.items():
        writer.save(name, np.asarray(array))
    own = len(inputs["own"]["images"]) if isinstance(view, AttackerView) and _learns(mounted, inputs) else 0
    writer.meta |= {"training": training.model_dump(mode="json"), "queries": getattr(asked, "queries", 0) + own}
    if isinstance(view, AttackerView):
        writer.meta["repeated"] = repeated(view.targets)
    if answers.at:
        whole = training.steps if answers.budget == "steps" else training.training_images
        writer.meta |= {"budget": answers.budget, "whole": answers.whole or whole or 0}


def repeated(targets: ByteArray) -> int:
    """How many targets of (shots, n, ...) have two releases that are equal; there are several only of fresh draws."""
    return sum(len({release.tobytes() for release in of_one}) < len(of_one) for of_one in targets.swapaxes(0, 1))


def material(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """The arrays of something that attacks start from, or that a recognizer is fine-tuned from.

    It is computed in the view of the first attack of the suite that declares it, without what only the attack itself is
    given: a recognizer, a protected gallery, reconstructions of other attacks. One that is of clear images is given
    these alone.
    """
    spec = job.spec
    access: KeyAccess
    if "adaptor" in job.how:
        card, access, oracle = ADAPTOR, "same", None
        starts: Callable[[Scope], tuple[Material, ...]] = partial(_of_adaptor, job.how["adaptor"])
    else:
        mounted: Attack = build(job.how["declared_by"])
        card, access, starts = mounted.card, mounted.key_access, mounted.starts_from
        oracle = _oracle(context, spec["known"]) if "known" in spec else None
    if "known" in spec:
        view = attacker_view(card.model_copy(update={"needs_surrogate": False}), job, inputs, context, oracle, access)
    else:
        view = clear_view(context.dataset.attacker, Scope(*job.how["scope"]))
        view = replace(view, materials=materials_of(inputs))
    found = find_material(starts(view.scope), spec["name"], spec["spec"])
    view = replace(
        view,
        oracle=view.oracle if found.queries else None,
        surrogate=context.surrogate if found.needs_surrogate else None,
    )
    for name, array in found.compute(view, material_generator(context, found, spec)).items():
        writer.save(name, array)


def adapt(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``embeddings`` float32 (n, d) of the evaluation release, by a recognizer that was fine-tuned on the defense.

    It learns from protected images of the attacker's people, who are not evaluated. What of it came out best on some of
    them held out, the adaptor alone or with a head, is recorded in ``log``.

    Raises:
        Unavailable: the suite has no recognizer with gradients.
    """
    spec = job.spec
    view = attacker_view(ADAPTOR, job, inputs, context, None)
    released, config = np.asarray(inputs["evaluation"]["images"]), StudentConfig(**spec["recognizer"]["config"])
    adapted = adaptation.adapted(view, released, config, lambda found: material_generator(context, found, spec))
    embeddings, writer.meta["log"] = adaptation.fine_tuned_embeddings(adapted, context.dataset.attacker.identities)
    writer.save("embeddings", embeddings.astype(np.float32))


def _of_adaptor(config: Mapping[str, Any], scope: Scope) -> tuple[Material, ...]:
    """What a fine-tuned recognizer starts from."""
    return adaptation.student_materials(scope, StudentConfig(**config))


def material_generator(context: Context, material: Material, spec: Mapping[str, Any]) -> torch.Generator:
    """The randomness of a material: one for each defense, and for each that the attacker knows it under.

    There is one for all defenses of a material that is of clear images.
    """
    purpose = {"name": material.name, "shared": dict(material.spec), "defense": spec.get("defense"),
               "seed": context.setting.seed, "dataset": spec["dataset"],
               "threads": context.setting.protocol.threads}  # fmt: skip
    if spec.get("known") != spec.get("defense"):
        purpose["known"] = spec["known"]
    return context.generator("shared", purpose)


def _learns(mounted: Attack, inputs: Inputs) -> bool:
    return mounted.card.learned and "own" in inputs


def build(spec: Mapping[str, Any]) -> Any:
    """The attack of a spec."""
    return registry.build("attack", spec["name"], spec["config"])


def find_material(starts: tuple[Material, ...], name: str, spec: Mapping[str, Any]) -> Material:
    """What is declared under a name and a spec.

    Raises:
        UserError: no such thing is.
    """
    for found in declared(starts):
        if found.name == name and dict(found.spec) == dict(spec):
            return found
    raise UserError(f"the attack declares '{name}' no longer", "Run the same command again.")


def declared(materials: tuple[Material, ...]) -> list[Material]:
    """Materials and all that they start from, each once, in an order in which they can be computed."""
    found: dict[str, Material] = {}
    for one in materials:
        for earlier in declared(one.starts_from):
            found.setdefault(earlier.key, earlier)
        found.setdefault(one.key, one)
    return list(found.values())


def attacker_view(
    card: AttackCard, job: Job, inputs: Inputs, context: Context, oracle: LiveOracle | None,
    key_access: KeyAccess = "same",
) -> AttackerView:  # fmt: skip
    """What an attacker sees by its card: releases, its own images, what it starts from, and never an original.

    An informed one has the defense under another key than the targets', unless it holds theirs.
    """
    spec, dataset = job.spec, context.dataset
    aware = card.knowledge != "oblivious"
    recognizer = spec.get("recognizer")
    defense = type(context.defense(spec["defense"]))
    code = context.code_of if key_access == "same" else context.defense
    sources = {name.removeprefix("source "): output for name, output in inputs.items() if name.startswith("source ")}
    return AttackerView(
        knowledge=card.knowledge,
        auxiliary=dataset.attacker,
        targets=targets_of(inputs, context),
        auxiliary_protected=inputs["own"]["images"] if aware else None,
        oracle=oracle if aware else None,
        gallery=dataset.evaluation.load(dataset.gallery) if card.needs_gallery else None,
        recognizer=context.embedder(recognizer["name"]) if recognizer is not None else None,
        defense=code(spec["known"]) if card.knowledge == "informed" else None,
        reconstructions={label: output["answer"] for label, output in sources.items()},
        source_answers={
            label: Answers.of_arrays(output, output.meta.get("budget", "steps"), output.meta.get("whole", 0))
            for label, output in sources.items()
        },
        protected_gallery=inputs["gallery"]["images"] if "gallery" in inputs else None,
        surrogate=context.surrogate if card.needs_surrogate else None,
        materials=materials_of(inputs),
        render=context.render(spec["defense"]),
        releases_image=defense.releases_image(),
        photographs_of=dataset.name if dataset.card.real_people else "",
    )  # fmt: skip


def targets_of(inputs: Inputs, context: Context) -> ByteArray:
    """The protected targets, uint8 (shots, n, ...) as released: rows of the evaluation release, then further shots."""
    found = [inputs["evaluation"]["images"][context.dataset.targets]]
    shots = sorted(int(name.removeprefix("shot ")) for name in inputs if name.startswith("shot "))
    return np.stack([*found, *(inputs[f"shot {shot}"]["images"] for shot in shots)])


def materials_of(inputs: Inputs) -> dict[str, Arrays]:
    """What is started from, by ``Material.key``."""
    return {name.removeprefix("material "): arrays for name, arrays in inputs.items() if name.startswith("material ")}


def _oracle(context: Context, known: Mapping[str, Any]) -> LiveOracle:
    def protect(images: ByteArray, draw: int) -> ByteArray:
        # An attacker's own images may come back as clear as they will.
        return release(context.defense(known), images, context.draws_for(images, draw), may_be_clear=True)

    return LiveOracle(protect)
