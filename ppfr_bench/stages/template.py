"""Stages of the template track: embeddings become releases under keys, pairs become decisions, rebuilt faces are read.

Keys 0 and 1 are those of two systems that hold the same people; 2 and 3 are an attacker's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import registry
from ppfr_bench.api import Attack, AttackCard, FloatArray, Pairs, Scope, materialised
from ppfr_bench.contracts.findings import Finding
from ppfr_bench.datasets.faces import subset
from ppfr_bench.errors import UserError
from ppfr_bench.learning.heads import unit_rows
from ppfr_bench.metrics.verification import best_threshold, impostors_needed, threshold_at_far
from ppfr_bench.records.record import Component
from ppfr_bench.stages.context import Context, chunks
from ppfr_bench.stages.release import RejectedError
from ppfr_bench.stages.spec import Job, Stage
from ppfr_bench.stages.store import Output, Writer
from ppfr_bench.template.api import Key, Service, TemplateProtection, TemplateView
from ppfr_bench.template.quantised import quantised_cosine
from ppfr_bench.testing import example_faces
from ppfr_bench.testing.attacker import TinyEmbedder, TinySurrogate

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph

Inputs = Mapping[str, Output]
FIRST, SECOND, OWN, OWN_SECOND = range(4)  # Keys.
_SERVICE_FMRS = (1e-3, 1e-2, 1e-1)  # The service accepts so many impostors of the attacker's people, if it can tell.
_CHOOSING = 500  # Of so many people at most the threshold of the service is chosen.
_ROWS = 256  # Templates at a time.
_COST_GALLERY = 1000
IntArray = npt.NDArray[np.int64]


# Stages -------------------------------------------------------------------------------------------------------------


def embedded(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``embeddings`` float32 (m, d) of the attacker's clear images."""
    embedder = context.embedder(job.spec["recognizer"]["name"])
    parts = [embedder.embed(batch) for batch in context.dataset.attacker.batches(context.batch)]
    writer.save("embeddings", np.concatenate(parts).astype(np.float32))


def released(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``released`` float64 (n, k): the targets, the gallery or the attacker's people under one of the keys.

    Raises:
        RejectedError: the method fails, or what it returns is no finite array of one row a face.
    """
    spec, method = job.spec, _method(context, job.spec)
    rows = unit_rows(_of(spec["of"], inputs["embeddings"]["embeddings"], context))
    key, generator, array = key_of(context, method, spec, rows.shape[1]), _draws(context, spec), None
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        found = checked_release(method, part, key, generator, job.how["label"])
        if array is None:
            array = writer.open("released", (len(rows), found.shape[1]), np.float64)
        array[start : start + len(part)] = found


def matched(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``scores`` and ``plain`` float64 (m,) of the evaluation pairs: of the method, and cosine of plain templates.

    Beside them ``cost`` int64 (2,): bytes up and down of a search of 1,000 templates.
    """
    method, rows = _method(context, job.spec), unit_rows(_float(inputs["embeddings"]["embeddings"]))
    pairs, generator = context.dataset.pairs, _draws(context, job.spec)
    key = key_of(context, method, job.spec, rows.shape[1])
    writer.save("scores", _scores(method, rows[pairs.left], rows[pairs.right], key, generator))
    writer.save("plain", (rows[pairs.left] * rows[pairs.right]).sum(axis=1))
    cost = method.cost(rows.shape[1], _COST_GALLERY, key, generator)
    # Compressed ciphertexts differ by some bytes: two digits are what repeats.
    writer.save("cost", np.asarray([float(f"{cost.up:.2g}"), float(f"{cost.down:.2g}")]))
    writer.meta["cost"] = {"rounds": cost.rounds, "stored": cost.stored, "gallery": _COST_GALLERY}


def decided(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``accepted``: the decisions of the system as it runs, bool (m,), on the pairs of the data set's own protocol.

    Beside it ``quantised``: those of the cosine of quantised plain templates. Each has the thresholds of its own scores
    that do best on the other folds. ``meta`` says what a decision took.
    """
    method, rows = _method(context, job.spec), unit_rows(_float(inputs["embeddings"]["embeddings"]))
    pairs, generator = context.dataset.canary[1], _draws(context, job.spec)
    key = key_of(context, method, job.spec, rows.shape[1])
    left, right = rows[pairs.left], rows[pairs.right]
    scores, reference = _scores(method, left, right, key, generator), quantised_cosine(left, right)
    started = time.perf_counter()
    accepted = method.decide(left, right, _thresholds(scores, pairs), key, generator)
    seconds = time.perf_counter() - started
    writer.save("accepted", accepted)
    writer.save("quantised", reference >= _thresholds(reference, pairs))
    writer.meta["timing"] = {"decisions": len(pairs), "milliseconds_a_decision": round(1e3 * seconds / len(pairs), 3)}


def judged(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``embeddings`` float32 (n, d) of the faces that an attack has rebuilt, by a recognizer that it did not have."""
    embedder = context.embedder(job.spec["recognizer"]["name"])
    parts = [embedder.embed(np.asarray(part)) for part in chunks(inputs["answer"]["answer"], context.batch)]
    writer.save("embeddings", np.concatenate(parts).astype(np.float32))


# The graph ----------------------------------------------------------------------------------------------------------


def _release(graph: Graph, defense: Component, recognizer: Component, of: str, key: int) -> Stage:
    """The release of the targets, the gallery or the attacker's people."""
    rows = _own_embeddings(graph, recognizer) if of == "attacker" else graph.embed(recognizer, "evaluation")
    spec = _spec(graph, defense, recognizer) | {"of": of, "key": key}
    return graph.stage("template.released", spec, {"embeddings": rows}, how={"label": defense.label})


def upstream(graph: Graph, defense: Component, attack: Attack, recognizer: Component | None) -> dict[str, Stage]:
    """What an attack sees: releases, its own people's, and what its card asks for."""
    assert recognizer is not None, "attacks on templates need a recognizer"
    first, second = (OWN, OWN_SECOND) if attack.key_access == "other" else (FIRST, SECOND)
    found = {
        "released": _release(graph, defense, recognizer, "targets", FIRST),
        "own_embeddings": _own_embeddings(graph, recognizer),
    }
    reads_own = getattr(attack, "reads_own", attack.card.learned)
    if reads_own:
        found["own_released"] = _release(graph, defense, recognizer, "attacker", first)
    if attack.card.needs_protected_gallery:
        found["released_elsewhere"] = _release(graph, defense, recognizer, "gallery", SECOND)
        if reads_own:
            found["own_elsewhere"] = _release(graph, defense, recognizer, "attacker", second)
    if attack.card.needs_gallery or getattr(attack, "asks", False):
        found["evaluation"] = graph.embed(recognizer, "evaluation")
    for material in attack.starts_from(Scope(1, releases_image=False)):
        if not material.of_clear_images:
            raise UserError(
                f"an attack on templates starts from '{material.name}', which is not of clear images alone",
                "Declare it of_clear_images, or compute it in `fit`.",
            )
        found[f"material {material.key}"] = graph.material(material, defense)
    return found


def _own_embeddings(graph: Graph, recognizer: Component) -> Stage:
    spec = {"recognizer": recognizer.spec, "dataset": graph.setting.dataset_revision}
    return graph.stage("template.embedded", spec)


def _spec(graph: Graph, defense: Component, recognizer: Component) -> dict[str, Any]:
    return {
        "defense": defense.spec, "recognizer": recognizer.spec, "dataset": graph.setting.dataset_revision,
        "seed": graph.setting.seed, "version": 1,
    }  # fmt: skip


# The view -----------------------------------------------------------------------------------------------------------


def view(card: AttackCard, job: Job, inputs: Inputs, context: Context) -> TemplateView:
    """What an attacker sees by its card."""
    spec, dataset = job.spec, context.dataset

    def of(name: str) -> FloatArray:
        return _float(inputs[name]["released"]) if name in inputs else np.empty((0, 0))

    method, own = _method(context, spec), unit_rows(_float(inputs["own_embeddings"]["embeddings"]))
    clear = unit_rows(_float(inputs["evaluation"]["embeddings"])) if "evaluation" in inputs else None
    asks = getattr(registry.load("attack", spec["attack"]["name"]), "asks", False)
    service = None
    if asks and clear is not None:
        key = key_of(context, method, spec | {"key": FIRST}, own.shape[1])
        generator = context.generator("template service", spec["defense"], spec["recognizer"])
        service = service_of(method, key, clear[dataset.targets], own, dataset.attacker.identities, generator)
    return TemplateView(
        knowledge=card.knowledge, auxiliary=dataset.attacker, targets=_no_images(), own_embeddings=own,
        released=of("released"), released_elsewhere=of("released_elsewhere"), own=of("own_released"),
        own_elsewhere=of("own_elsewhere"),
        gallery_embeddings=clear[dataset.gallery] if card.needs_gallery and clear is not None else None,
        compare=method.compare, service=service,
        surrogate=context.surrogate if card.needs_surrogate else None,
        materials={name.removeprefix("material "): one for name, one in inputs.items() if name.startswith("material ")},
        releases_image=False, photographs_of=dataset.name if dataset.card.real_people else "",
    )  # fmt: skip


def service_of(
    method: TemplateProtection, key: Key, references: FloatArray, own: FloatArray, identities: IntArray,
    generator: torch.Generator,
) -> Service:  # fmt: skip
    """The system as a service, which has enrolled the references (n, d).

    Its threshold accepts at most 1 in 1,000 pairs of different people of the attacker's, whom the operator could have
    chosen it on as well; 1 in 100 or 10 where there are too few pairs to tell.
    """
    first = np.sort(np.unique(identities, return_index=True)[1])[:_CHOOSING]
    left, right = np.triu_indices(len(first), 1)
    impostors = _scores(method, own[first][left], own[first][right], key, generator)
    possible = [rate for rate in _SERVICE_FMRS if len(impostors) >= impostors_needed(rate)]
    threshold = threshold_at_far(impostors, possible[0]) if possible else float(impostors.max())

    def scores(rows: IntArray, probes: FloatArray) -> FloatArray:
        return _scores(method, unit_rows(probes), references[rows], key, generator)

    return Service(scores, threshold, method.reveals_scores, len(references), own.shape[1])


# What they share ----------------------------------------------------------------------------------------------------


def key_of(context: Context, method: TemplateProtection, spec: Mapping[str, Any], dimension: int) -> Key:
    """The key of a number, of the systems that use this recognizer."""
    return method.new_key(
        dimension, context.generator("template key", spec["defense"], spec["recognizer"], spec["key"])
    )


def checked_release(
    method: TemplateProtection, rows: FloatArray, key: Key, generator: torch.Generator, label: str
) -> FloatArray:
    """What a method releases of unit rows.

    Raises:
        RejectedError: it fails, or what it returns is no finite array of one row a face.
    """
    before = rows.copy()
    try:
        found = method.protect(rows, key, generator)
    except UserError:
        raise
    except Exception as error:  # A plug-in's code may raise anything; that is the finding.
        raise RejectedError(
            f"defense {label}: raises {type(error).__name__}: {error}", "Nothing is released."
        ) from error
    given: Any = found  # A plug-in's code may return anything.
    right = isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype == np.float64 and given.size > 0
    if not right or len(given) != len(rows):
        got = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        raise RejectedError(f"defense {label}: expected float64 ({len(rows)}, k), got {got}", "Nothing is released.")
    if not np.isfinite(found).all() or not np.array_equal(before, rows):
        wrong = "changes the embeddings it is given" if np.isfinite(found).all() else "releases NaN or infinite values"
        raise RejectedError(f"defense {label}: {wrong}", "Nothing is released.")
    return found


def _scores(
    method: TemplateProtection, left: FloatArray, right: FloatArray, key: Key, generator: torch.Generator
) -> FloatArray:
    """Of each pair, a part at a time."""
    parts = [
        method.score(left[start : start + _ROWS * 16], right[start : start + _ROWS * 16], key, generator)
        for start in range(0, len(left), _ROWS * 16)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _thresholds(scores: FloatArray, pairs: Pairs) -> FloatArray:
    """For each pair the threshold that does best on the other folds, (m,)."""
    found = np.empty(len(scores))
    for fold in np.unique(pairs.fold):
        others = pairs.fold != fold if (pairs.fold != fold).any() else pairs.fold == fold
        found[pairs.fold == fold] = best_threshold(scores[others], pairs.same[others])
    return found


def _method(context: Context, spec: Mapping[str, Any]) -> TemplateProtection:
    return cast(TemplateProtection, context.defense(spec["defense"]))


def _draws(context: Context, spec: Mapping[str, Any]) -> torch.Generator:
    of = [spec.get("of", ""), spec["key"]]
    return context.generator("template draws", spec["defense"], spec["recognizer"], spec["dataset"], of)


def _of(of: str, embeddings: npt.NDArray[Any], context: Context) -> FloatArray:
    chosen = {"targets": context.dataset.targets, "gallery": context.dataset.gallery}.get(of)
    return _float(embeddings if chosen is None else embeddings[chosen])


def _float(array: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(array, dtype=np.float64)


def _no_images() -> npt.NDArray[np.uint8]:
    return np.empty((1, 0, 3, 112, 112), np.uint8)


# ``ppfr-bench check`` -----------------------------------------------------------------------------------------------


def check(method: TemplateProtection, seed: int) -> list[Finding]:
    """The contract of a template protection, on sixteen faces: what is released and what is refused."""
    return list(_breaches(method, seed))


def _breaches(method: TemplateProtection, seed: int) -> Iterator[Finding]:
    faces = example_faces()
    rows = unit_rows(_float(TinyEmbedder().embed(faces.load(range(len(faces))))))

    def draws(offset: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed + offset)

    key, other = (method.new_key(rows.shape[1], draws(offset)) for offset in (0, 1))
    label = method.card.title
    try:
        once, again = (checked_release(method, rows, key, draws(2), label) for _ in range(2))
        renewed = checked_release(method, rows, other, draws(2), label)
    except RejectedError as error:
        yield Finding("release", error.message)
        return
    if not np.array_equal(once, again):
        yield Finding("not_deterministic", "two releases under one key and one seed differ")
    if not method.card.control and np.array_equal(once, renewed):
        yield Finding("not_renewable", "a new key releases the same templates")
    thresholds = np.full(len(rows), float(np.median(method.score(rows, rows[::-1], key, draws(3)))))
    decisions = method.decide(rows, rows[::-1], thresholds, key, draws(3))
    if decisions.dtype != np.bool_ or decisions.shape != (len(rows),):
        yield Finding("decide", f"expected bool ({len(rows)},), got {decisions.dtype} {decisions.shape}")
    for wrong, what in (
        (rows * 2, "templates that are not of unit length"),
        (rows[:, :-1], "templates of another length"),
    ):
        try:
            method.protect(wrong, key, draws(4))
        except UserError:
            continue
        if not (method.card.control and wrong.shape[1] < rows.shape[1]):
            yield Finding("accepts_wrong_input", f"releases {what}; raise UserError, see template.api.checked")


def example_view(attack: Attack, seed: int) -> TemplateView:
    """Sixteen faces under a random projection, half of them the attacker's."""
    faces, method = example_faces(), registry.build("defense", "random_projection", {})
    rows = unit_rows(_float(TinyEmbedder().embed(faces.load(range(len(faces))))))
    mine = faces.identities < np.median(faces.identities)
    gallery = np.flatnonzero(~mine)[np.unique(faces.identities[~mine], return_index=True)[1]]
    keys = [method.new_key(rows.shape[1], torch.Generator().manual_seed(seed + number)) for number in range(4)]
    first, second = (OWN, OWN_SECOND) if attack.key_access == "other" else (FIRST, SECOND)
    draws = torch.Generator().manual_seed(seed)
    card, own = attack.card, subset(faces, np.flatnonzero(mine))
    found = TemplateView(
        knowledge=card.knowledge, auxiliary=own, targets=_no_images(), own_embeddings=rows[mine],
        released=method.protect(rows[~mine], keys[FIRST], draws),
        released_elsewhere=method.protect(rows[gallery], keys[SECOND], draws),
        own=method.protect(rows[mine], keys[first], draws),
        own_elsewhere=method.protect(rows[mine], keys[second], draws),
        gallery_embeddings=rows[gallery] if card.needs_gallery else None, compare=method.compare,
        service=service_of(method, keys[FIRST], rows[~mine], rows[mine], own.identities, draws),
        surrogate=TinySurrogate() if card.needs_surrogate else None, releases_image=False,
    )  # fmt: skip
    return replace(found, materials=materialised(attack, found).materials)
