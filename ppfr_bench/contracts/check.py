"""``ppfr-bench check``: the contract of one plug-in or recognizer, on the faces that ship with the package."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from ppfr_bench import registry
from ppfr_bench.api import (
    Answers,
    Attack,
    AttackerView,
    Defense,
    Differentiable,
    Recognizer,
    TrainingLog,
    Unavailable,
    to_float,
)
from ppfr_bench.contracts.defense import check_defense
from ppfr_bench.contracts.dp_audit import check_guarantee
from ppfr_bench.contracts.findings import Finding
from ppfr_bench.datasets.faces import subset
from ppfr_bench.metrics.verification import auc
from ppfr_bench.recognizers import load_recognizer, recognizer_component
from ppfr_bench.scorers.base import Scorer
from ppfr_bench.stages.release import RejectedError, draws_for, release
from ppfr_bench.suites import explain
from ppfr_bench.testing import attacker_view, example_faces
from ppfr_bench.tracks.base import load_track


def check_plugin(kind: registry.Kind, name: str, seed: int = 0) -> list[Finding]:
    """Every breach of the contract by a defense or an attack under its default parameters; none if it keeps it.

    Raises:
        UserError: the plug-in cannot be loaded.
    """
    plugin = registry.build(kind, name, {})
    if isinstance(plugin, Attack):
        return _check_attack(plugin, seed)
    if stages := load_track(registry.track_of(type(plugin))).stages:
        found: list[Finding] = import_module(stages).check(plugin, seed)
        return found
    return _check_defense(plugin, seed)


def _check_defense(defense: Defense, seed: int) -> list[Finding]:
    if not defense.card.live:
        return []  # It has nothing to say to images that it was not prepared for.
    faces = example_faces()
    images, names = faces.load(range(len(faces))), list(faces.names)
    if type(defense).learns():
        defense.fit(faces, torch.Generator().manual_seed(seed))
    findings = check_defense(defense, images, names, seed)
    if findings or defense.card.control:
        return findings
    try:
        release(defense, images, draws_for(images, seed, 0), names)
    except RejectedError as error:
        findings.append(Finding("clear_image", error.message, tuple(error.leaked)))
    return findings or check_guarantee(defense, seed)


def _check_attack(attack: Attack, seed: int) -> list[Finding]:
    """Run it twice against the test faces, half of them the attacker's, behind a mosaic."""
    if not attack.card.live:
        return []  # It has nothing to say of releases that it was not given answers to.
    view_of, targets, gallery = _examples(attack, seed)
    answers = []
    for _ in range(2):
        fresh = type(attack)(attack.config)
        try:
            view = view_of(fresh)
            fresh.fit(view, torch.Generator().manual_seed(seed))
            answers.append(Answers.of(fresh.run(view)).arrays)
        except Exception as error:  # A contributor's code may raise anything; that is the finding.
            return [Finding("raises", f"{type(error).__name__}: {error}", ())]
    findings = []
    scorer: Scorer = registry.load("scorer", attack.card.measures)()
    for answer in answers[0].values():
        if wrong := scorer.wrong_answer(answer, targets, gallery):
            findings.append(Finding("answer", wrong, ()))
    try:
        TrainingLog.of(fresh.log)
    except ValidationError as error:
        findings.append(Finding("log", f"its log: {explain(error, TrainingLog)}", ()))
    same = answers[0].keys() == answers[1].keys()
    if not same or not all(np.array_equal(answers[0][name], answers[1][name]) for name in answers[0]):
        findings.append(Finding("not_deterministic", "two runs with one seed differ", ()))
    return findings


def _examples(attack: Attack, seed: int) -> tuple[Callable[[Attack], Any], int, int]:
    """What makes the view that an attack is tried on, and how many targets and photos of a gallery it has."""
    modules = [stages for name in attack.card.tracks if (stages := load_track(name).stages)]
    if modules:
        view = import_module(modules[0]).example_view(attack, seed)
        return lambda fresh: view, view.target_count, view.gallery_count
    faces = example_faces()
    middle = np.median(faces.identities)
    mine, others = (np.flatnonzero(side) for side in (faces.identities < middle, faces.identities >= middle))
    clear = faces.load(others)
    gallery = clear[np.unique(faces.identities[others], return_index=True)[1]]

    def of_images(fresh: Attack) -> AttackerView:
        return attacker_view(fresh, registry.build("defense", "pixelate", {}), subset(faces, mine), clear, gallery)

    return of_images, len(clear), len(gallery)


@dataclass(frozen=True)
class Examined:
    """What a recognizer did with the sixteen faces: breaches of the contract, and facts that are none."""

    findings: list[Finding]
    facts: dict[str, Any]


def examine_recognizer(source: str) -> Examined:
    """Hold a recognizer to the contract: shape, length, finite, the same whatever the batch, gradients if it has any.

    The AUC of the sixteen faces says whether it tells people apart at all; what it does on photographs is another
    matter.

    Raises:
        UserError: it cannot be had, or its card is wrong.
    """
    component = recognizer_component(source)
    recognizer, faces, findings = load_recognizer(component.name), example_faces(), []
    images = to_float(faces.load(range(len(faces))))
    started = time.perf_counter()
    embedded = recognizer.embed(images)
    seconds = time.perf_counter() - started
    card, came = recognizer.card, f"{embedded.dtype} {tuple(embedded.shape)}"
    if embedded.dtype != torch.float32 or embedded.shape != (len(images), card.dimension):
        findings.append(Finding("shape", f"expected float32 ({len(images)}, {card.dimension}), got {came}"))
        return Examined(findings, {"label": component.label, "name": component.name})
    if not bool(embedded.isfinite().all()):
        findings.append(Finding("not_finite", "NaN or infinite values"))
        return Examined(findings, {"label": component.label, "name": component.name})
    if card.metric == "cosine" and bool(((embedded.norm(dim=1) - 1).abs() > 1e-4).any()):
        findings.append(Finding("length", "the metric is cosine and embeddings are not of unit length"))
    alone = torch.cat([recognizer.embed(images[i : i + 1]) for i in range(3)])
    if not torch.equal(alone, embedded[:3]):
        off = float((alone - embedded[:3]).abs().max())
        findings.append(Finding("batch", f"an embedding depends on the other images of its batch, by {off:.3g}"))
    network = _with_gradients(recognizer)
    if network is not None:
        findings += _check_gradients(network, images[:2], embedded[:2])
    vectors = embedded.double().numpy()
    left, right = np.triu_indices(len(vectors), 1)
    same = faces.identities[left] == faces.identities[right]
    told_apart = auc(recognizer.similarity(vectors[left], vectors[right]), same)
    facts = {
        "label": component.label, "name": component.name, "dimension": card.dimension, "metric": card.metric,
        "surrogate": network is not None, "auc": round(told_apart, 4),
        "ms_an_image": float(f"{1000 * seconds / len(images):.3g}"),
    }  # fmt: skip
    return Examined(findings, facts)


def _with_gradients(recognizer: Recognizer) -> torch.nn.Module | None:
    """None of a recognizer that has no gradients to give, which is no breach: it can still be a black box."""
    try:
        return recognizer.differentiable() if isinstance(recognizer, Differentiable) else None
    except Unavailable:
        return None


def _check_gradients(network: torch.nn.Module, images: torch.Tensor, embedded: torch.Tensor) -> list[Finding]:
    images = images.clone().requires_grad_()
    answer = network(images)
    findings = []
    off = float((answer.detach() - torch.nn.functional.normalize(embedded, dim=1)).abs().max())
    if not off <= 1e-3:
        findings.append(Finding("surrogate", f"embeddings with gradients differ from those without, by {off:.3g}"))
    (gradient,) = torch.autograd.grad(answer[:, 0].sum(), images)
    if not bool(gradient.isfinite().all()) or not bool((gradient != 0).any()):
        findings.append(Finding("gradient", "no finite gradient reaches the images"))
    return findings
