"""Stages of the robustness track: the service, its hardening, what is certified of that, and what attacks come to.

Noise by which a certificate is made, by which an attack is judged and that an attacker draws have generators of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ppfr_bench import device, registry
from ppfr_bench.api import AttackCard, ByteArray, IntArray, to_bytes, to_float
from ppfr_bench.contracts.findings import Finding
from ppfr_bench.errors import UserError
from ppfr_bench.robustness.api import (
    Given,
    HardenedClassifier,
    Hardening,
    RobustnessView,
    Service,
    WhiteBox,
    distance,
    impersonated,
)
from ppfr_bench.robustness.graph import upstream
from ppfr_bench.robustness.service import IdentificationNetwork, assign_roles, fit_head
from ppfr_bench.robustness.smoothing import ABSTAINS, NORMS, Noise
from ppfr_bench.stages.context import Context
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer
from ppfr_bench.testing.faces import example_faces
from ppfr_bench.testing.recognizer import TinyRecognizer

__all__ = ["attacked", "certified", "check", "classifier", "example_view", "hardened", "service", "upstream", "view"]

Inputs = Mapping[str, Output]
SLACK = 1e-3  # A change may be longer than its budget by this share: it is kept in 16 bits a value.
_AT_ONCE = 64  # Photos that are judged in one go: noise is drawn for all of them, so that numbers depend on it.
_CHECKED = 4  # Steps that a row is trained for when it is checked.
_PARAMETER = "weight "  # Before the name of a parameter of a network.


# What they compute -------------------------------------------------------------------------------------------------


def service(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """The head, ``weight`` and ``bias``; the ``embeddings`` of all photos of enrolled people, in order of ``rows``, and
    their ``labels``; the rows of ``enrolled``, ``queried`` and ``test`` photos among the evaluation images; and the
    ``decisions`` on the test photos.

    Raises:
        UserError: fewer than two people have photos enough.
        Unavailable: the suite has no recognizer with gradients.
    """
    faces = context.dataset.evaluation
    roles = assign_roles(faces.identities)
    embedding = context.surrogate
    rows = np.sort(np.concatenate([roles.enrolled, roles.queried, roles.test]))
    parts = []
    for start in range(0, len(rows), context.batch):
        with torch.no_grad():
            images = to_float(faces.load(rows[start : start + context.batch]))
            parts.append(embedding(images.contiguous(memory_format=torch.channels_last)).cpu())
    embeddings, labels = torch.cat(parts), roles.classes(faces.identities[rows])
    mine = np.isin(rows, roles.enrolled)
    weight, bias = fit_head(embeddings[mine], torch.from_numpy(labels[mine]), len(roles.people))
    network = IdentificationNetwork(torch.nn.Identity(), weight, bias)
    tested = embeddings[np.isin(rows, roles.test)]
    with torch.no_grad():
        decisions = network.of_embeddings(tested).argmax(1).numpy()
    for name, array in {
        "weight": weight.numpy(), "bias": bias.numpy(), "embeddings": embeddings.numpy(), "rows": rows,
        "labels": labels, "enrolled": roles.enrolled, "queried": roles.queried, "test": roles.test,
        "people": roles.people, "decisions": decisions.astype(np.int64),
    }.items():  # fmt: skip
        writer.save(name, array)


def hardened(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """The weights of a row's network; ``noise``, ``side``, ``draws``, ``queries`` and what the row noted as meta.

    A row that is given the service as a black box gets neither its weights nor the photos that it was trained on.
    """
    row: Hardening = registry.build("defense", job.spec["defense"]["name"], job.spec["defense"]["config"])
    target = inputs["service"]
    faces, white_box = context.dataset.evaluation, _white_box(context, target)
    access = "probabilities" if row.access == "white_box" else row.access
    asked = Service(white_box.network, len(target["people"]), access)
    given = Given(
        asked, faces.load(np.asarray(target["queried"])), context.dataset.defender,
        white_box if row.access == "white_box" else None,
    )  # fmt: skip
    made = row.harden(given, context.generator("harden", job.spec["defense"], job.spec["dataset"]))
    for name, value in made.network.state_dict().items():
        writer.save(f"{_PARAMETER}{name}", value.cpu().numpy())
    writer.meta |= {
        "noise": [made.noise.family, made.noise.deviation], "side": made.side, "draws": made.draws,
        "log": row.log,
    }  # fmt: skip
    writer.save("queries", np.asarray(asked.queries))


def certified(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """``decisions`` on the test photos; ``classes``, ``shares`` and the ``radius`` by norm that are certified."""
    made, images = classifier(job, inputs, context), _tests(context, inputs)
    generator = context.generator("certify", job.spec["defense"], job.spec["dataset"])
    decisions, parts = [], []
    for start in range(0, len(images), _AT_ONCE):
        batch = to_float(images[start : start + _AT_ONCE])
        decisions.append(made.decide(batch, generator))
        parts.append(
            made.certify(
                batch, generator, first=job.spec["first"], samples=job.spec["samples"], alpha=job.spec["alpha"]
            )
        )
    writer.save("decisions", np.concatenate(decisions))
    writer.save("classes", np.concatenate([one.classes for one in parts]))
    writer.save("shares", np.concatenate([one.shares for one in parts]))
    for norm in NORMS:
        writer.save(f"radius_{norm}", np.concatenate([one.radii[norm] for one in parts]))


def attacked(job: Job, inputs: Inputs, context: Context, writer: Writer) -> None:
    """What became of an attacker's changes, by budget: ``norms`` (b, n), ``decisions``, and of those that contradict
    a certificate what is decided ``surely``, by many more votes.

    ``wanted`` is whom the attacker of each image would be taken for, and ``impersonates`` whether it is after that.

    Raises:
        UserError: the attack has no budgets or no goal, or a change is not of the images that were to be changed, or
            longer than its budget.
    """
    made, images, spec = classifier(job, inputs, context), _tests(context, inputs), job.spec
    changes, config = inputs["attack"]["answer"], spec["attack"]["config"]
    if not {"budgets", "goal"} <= set(config):
        raise UserError(
            f"attack {spec['attack']['name']}: expected the parameters `budgets` and `goal`, got {', '.join(config)}",
            "See the Config of attacks/projected_gradient_descent.py.",
        )
    budgets = np.asarray(config["budgets"], dtype=np.float64)
    if changes.shape != (len(budgets), *images.shape):
        raise UserError(
            f"attack {spec['attack']['name']}: expected changes of shape {(len(budgets), *images.shape)}, one of each "
            f"image a budget, got {changes.shape}",
            "Return what is added to view.images, float16.",
        )
    norms = np.zeros((len(budgets), len(images)))
    decisions, surely = np.full((2, len(budgets), len(images)), ABSTAINS, dtype=np.int64)
    classes, radii = (np.asarray(inputs["certified"][name]) for name in ("classes", "radius_l2"))
    for b in range(len(budgets)):
        for start in range(0, len(images), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            clear = to_float(images[part])
            changed = (clear + device.to(torch.from_numpy(np.array(changes[b, part])).float())).clamp(0, 1)
            norms[b, part] = distance(changed, clear)
            generator = context.generator("judge", spec["defense"], spec["attack"], b, start)
            decided = decisions[b, part] = made.decide(changed, generator)
            doubted = np.flatnonzero((decided != classes[part]) & (norms[b, part] <= radii[part]))
            if len(doubted):  # Within their radius: a certificate is wrong, or the vote is by chance.
                surely[b, start + doubted] = made.decide_surely(
                    changed[doubted], spec["samples"], generator, spec["alpha"]
                )
    if (too_long := norms > budgets[:, None] * (1 + SLACK) + 1e-6).any():
        b, i = np.argwhere(too_long)[0]
        raise UserError(
            f"attack {spec['attack']['name']}: a change of l2 norm {norms[b, i]:.4g}, its budget is {budgets[b]:g}",
            "Scale it down to its budget before it is returned.",
        )
    labels = _labels_of(inputs["service"], "test")
    writer.save("budgets", budgets)
    writer.save("norms", norms)
    writer.save("decisions", decisions)
    writer.save("surely", surely)
    writer.save("wanted", impersonated(labels, len(inputs["service"]["people"])))
    writer.save("impersonates", np.asarray(config["goal"] == "impersonation"))


def view(card: AttackCard, job: Job, inputs: Inputs, context: Context) -> RobustnessView:
    """What an attacker is given: all of the hardened recognizer, its own photos, and photos that it may have seen."""
    target, found = inputs["service"], inputs["certified"]
    labels, rows = _labels_of(target, "test"), np.asarray(target["rows"])
    classes = np.asarray(found["classes"])
    return RobustnessView(
        hardened=classifier(job, inputs, context),
        images=_tests(context, inputs),
        labels=labels,
        certified={norm: _where_right(classes, np.asarray(found[f"radius_{norm}"]), labels) for norm in NORMS},
        right=np.asarray(found["decisions"]) == labels,
        candidates=context.dataset.evaluation.load(rows),
        candidate_labels=np.asarray(target["labels"]),
        embeddings=np.asarray(target["embeddings"], dtype=np.float64),
    )


def classifier(job: Job, inputs: Inputs, context: Context) -> HardenedClassifier:
    """The hardened recognizer that a row has made, from what was kept of it."""
    row: Hardening = registry.build("defense", job.spec["defense"]["name"], job.spec["defense"]["config"])
    target, kept = inputs["service"], inputs["hardened"]
    white_box = _white_box(context, target) if row.access == "white_box" else None
    classes = len(target["people"])
    network = row.network(classes, white_box)
    weights = {
        name.removeprefix(_PARAMETER): torch.from_numpy(np.array(kept[name]))
        for name in kept if name.startswith(_PARAMETER)
    }  # fmt: skip
    network.load_state_dict(weights)
    family, deviation = kept.meta["noise"]
    return HardenedClassifier(
        device.to(network), classes, Noise(family, deviation), kept.meta["side"], kept.meta["draws"]
    )


def _where_right(classes: IntArray, radii: Any, labels: IntArray) -> Any:
    return np.where(classes == labels, radii, 0.0)


def _white_box(context: Context, target: Mapping[str, Any]) -> WhiteBox:
    embedding = context.surrogate
    network = IdentificationNetwork(
        embedding, torch.from_numpy(np.array(target["weight"])), torch.from_numpy(np.array(target["bias"]))
    )
    photos = context.dataset.evaluation.load(np.asarray(target["enrolled"]))
    return WhiteBox(device.to(network), embedding, photos, _labels_of(target, "enrolled"))


def _tests(context: Context, inputs: Inputs) -> ByteArray:
    return context.dataset.evaluation.load(np.asarray(inputs["service"]["test"]))


def _labels_of(target: Mapping[str, Any], role: str) -> IntArray:
    """The class of each photo of a role."""
    at = np.searchsorted(np.asarray(target["rows"]), np.asarray(target[role]))
    return np.asarray(target["labels"])[at]


# For ``ppfr-bench check`` ---------------------------------------------------------------------------------------------


def check(method: Hardening, seed: int) -> list[Finding]:
    """Harden a service of the faces of the package, twice with one seed, in a few steps where the row has ``steps``."""
    if "steps" in type(method.config).model_fields:
        method = type(method)(method.config.model_copy(update={"steps": _CHECKED}))
    given, _, images = _example(method.access)
    classes = given.service.classes
    made = [method.harden(given, torch.Generator().manual_seed(seed)) for _ in range(2)]
    if not isinstance(made[0], HardenedClassifier) or made[0].classes != classes:
        return [Finding("classifier", f"expected a HardenedClassifier of {classes} classes, got {made[0]!r}")]
    first, second = (one.network.state_dict() for one in made)
    if any(not torch.equal(first[name], second[name]) for name in first):
        return [Finding("seed", "two runs with one seed learn other weights: draw from the generator that is given")]
    network = method.network(classes, given.white_box)
    if missing := set(network.state_dict()) ^ set(first):
        return [Finding("network", f"what harden returns is not of the architecture of network(): {sorted(missing)}")]
    logits = made[0].logits(images, torch.Generator().manual_seed(seed))
    if tuple(logits.shape) != (len(images), classes) or not torch.isfinite(logits).all():
        return [Finding("logits", f"expected finite logits {(len(images), classes)}, got {tuple(logits.shape)}")]
    return []


def example_view(attack: Any, seed: int) -> RobustnessView:
    """An attacker's view of the bare service of the faces of the package."""
    given, labels, images = _example("white_box")
    assert given.white_box is not None
    made = HardenedClassifier(given.white_box.network, given.service.classes, Noise("none"))
    faces = example_faces()
    candidates = faces.load(range(len(faces)))
    with torch.no_grad():
        embeddings = given.white_box.embedding(to_float(candidates)).double().cpu().numpy()
    return RobustnessView(
        hardened=made, images=to_bytes(images), labels=labels,
        certified={norm: np.zeros(len(images)) for norm in NORMS},
        right=made.decide(images, torch.Generator().manual_seed(seed)) == labels, candidates=candidates,
        candidate_labels=faces.identities, embeddings=embeddings,
    )  # fmt: skip


def _example(access: str) -> tuple[Given, IntArray, torch.Tensor]:
    """A service of four people, the classes of a test photo of each, and those photos."""
    faces = example_faces()
    turn = np.arange(len(faces)) % 4
    enrolled, queried, test = turn < 2, turn == 2, turn == 3
    embedding = TinyEmbedding()
    pixels = faces.load(np.flatnonzero(enrolled))
    weight, bias = fit_head(embedding(to_float(pixels)), torch.from_numpy(faces.identities[enrolled]), 4)
    network = device.to(IdentificationNetwork(embedding, weight, bias))
    white_box = WhiteBox(network, embedding, pixels, faces.identities[enrolled])
    asked = Service(network, 4, "labels" if access == "labels" else "probabilities")
    given = Given(asked, faces.load(np.flatnonzero(queried)), faces, white_box if access == "white_box" else None)
    return given, faces.identities[test], to_float(faces.load(np.flatnonzero(test)))


class TinyEmbedding(torch.nn.Module):
    """``TinyRecognizer`` with gradients."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> unit (n, 143)."""
        return TinyRecognizer().embed(images)
