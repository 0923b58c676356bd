"""What each part of the attack ``linkage_student`` is worth: switched off, one at a time, on five defenses.

    PYTHONPATH=studies python -m ablation.students --lfw FOLDER [--steps N] [--seed N]

It writes ``students.json`` beside this file, a line at a time, and goes on where it was stopped; then it prints the
table of docs/threat_model.md. The data are those of ``lfw_quick`` with 1,000 images of the attacker; nothing is
recorded on a board.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from ablation.ablation import Room, bracketed, write
from torch import nn

from ppfr_bench import registry
from ppfr_bench.api import Answers, Arrays, ByteArray, Material, to_bytes, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.learning import adaptation, inversion
from ppfr_bench.learning.heads import unit_rows
from ppfr_bench.metrics.identification import rank_k_hits
from ppfr_bench.metrics.verification import k_fold_accuracy
from ppfr_bench.scorers.bootstrap import Bootstrap, mean
from ppfr_bench.scorers.linkage import verification_pairs

MEASURED = Path(__file__).with_name("students.json")
HEADING = "### What each part of a student is worth"
DEFENSES: dict[str, tuple[str, dict[str, Any]]] = {
    "partialface": ("partialface", {}),
    "dctdp": ("dctdp", {}),
    "minusface": ("minusface", {}),
    "stochastic_anonymizer": ("stochastic_anonymizer", {}),
    "block_permutation_per_image": ("block_permutation", {"key": "image"}),
}
SURROGATE = "faceplugin"
RELEASES = 4
MEASURES = ("rank_1", "accuracy")
ONE, SEVERAL = "student", f"student of {RELEASES} releases"
BUDGETS = {4: "three quarters of the steps", 2: "half of the steps"}  # By the divisor that leaves the others.

Values = dict[str, npt.NDArray[np.float64]]  # By measure, of each target, (n,).


class _OnlyConvolutions(adaptation.Student):
    """Only the two convolutions before the recognizer learn."""

    def __init__(self, teacher: nn.Module, generator: torch.Generator) -> None:
        super().__init__(teacher, generator)
        self.recognizer.requires_grad_(False)


class _OnlyRecognizer(adaptation.Student):
    """The two convolutions stay as they are before training: they correct nothing."""

    def __init__(self, teacher: nn.Module, generator: torch.Generator) -> None:
        super().__init__(teacher, generator)
        self.before.requires_grad_(False)


def unmirrored(
    draws: list[ByteArray], wanted: torch.Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The batches of ``adaptation._batches`` with the same draws of chance, none of the images mirrored."""
    while True:
        order = torch.randperm(len(wanted), generator=generator)
        for start in range(0, max(1, len(order) - size + 1), size):
            rows = order[start : start + size]
            which = torch.randint(0, len(draws), (len(rows),), generator=generator)
            torch.rand(len(rows), generator=generator)  # The attack draws here which images are mirrored.
            images = to_float(np.stack([draws[int(k)][int(row)] for k, row in zip(which, rows, strict=True)]))
            yield images, images.new_zeros(()), wanted[rows]


def _mean_of_embeddings(network: nn.Module, shots: list[ByteArray]) -> npt.NDArray[np.float64]:
    return unit_rows(np.mean([adaptation.embed_bytes(network, shot) for shot in shots], axis=0))


def _embedding_of_mean(network: nn.Module, shots: list[ByteArray]) -> npt.NDArray[np.float64]:
    together = torch.stack([to_float(shot) for shot in shots]).mean(0)
    return adaptation.embed_bytes(network, to_bytes(together))


@dataclass(frozen=True)
class Arm:
    """How the attack runs without one of its parts.

    Attributes:
        params: of the attack, beside those of all arms.
        replaced: module, name in it and what is there instead.
        given: what the student is given; empty where the attack's own trial decides.
        anew: names of the materials that are not those of the whole attack.
    """

    params: dict[str, Any] = field(default_factory=dict)
    replaced: tuple[tuple[Any, str, Any], ...] = ()
    given: str = ""
    anew: tuple[str, ...] = ("student",)


def arms(name: str, given: str) -> dict[tuple[str, str], Arm]:
    """By attack and by what is switched off; what changes no training comes first.

    Args:
        name: of the defense, in ``DEFENSES``.
        given: what the whole attack gives its student: ``seen`` or ``rebuilt``.
    """
    attack = sys.modules[registry.load("attack", "linkage_student").__module__]
    kind, settings = DEFENSES[name]
    keys = settings.get("key") == "image"
    releases = given == "seen" and not keys  # Otherwise one image of each target is compared, and with clear ones only.
    found: dict[tuple[str, str], Arm] = {}
    if releases:
        same = Arm(given=given, anew=())
        found[ONE, "the gallery through the oracle"] = replace(same, replaced=((attack, "_OF_GALLERY", 0),))
        found[ONE, "weighting of both galleries"] = replace(
            same, replaced=((attack, "share_named", lambda scores, identities: 1.0),)
        )
        found[SEVERAL, "nothing"] = several = replace(same, params={"releases": RELEASES})
        for part, pooled in (
            ("the embedding of their mean", _mean_of_embeddings), ("the mean of their embeddings", _embedding_of_mean)
        ):  # fmt: skip
            found[SEVERAL, part] = replace(several, replaced=((attack, "_pooled", pooled),))
    found[ONE, "all training"] = Arm({"steps": 1, "learning_rate": 1e-12}, given=given)
    found[ONE, "training of the recognizer"] = Arm(replaced=((adaptation, "Student", _OnlyConvolutions),), given=given)
    found[ONE, "convolutions before the recognizer"] = Arm(
        replaced=((adaptation, "Student", _OnlyRecognizer),), given=given
    )
    found[ONE, "mirrored images"] = Arm(replaced=((adaptation, "_batches", unmirrored),), given=given)
    if releases:
        found[ONE, "a second release of its own images"] = Arm({"draws": 1}, given=given)
    found[ONE, "the input that the trial prefers"] = Arm(given="rebuilt" if given == "seen" else "seen")
    # A student that is given releases as they are seen has no use for another U-Net.
    unread = Arm(given=given, anew=("scene", "student") if given == "seen" else ("scene", "unet", "student"))
    if not registry.load("defense", kind).releases_image():
        nothing_read = (inversion, "read_reading", lambda view: None)
        found[ONE, "reading place by place"] = replace(unread, replaced=(nothing_read,))
    if keys:
        nothing_undone = (inversion, "read_undone", lambda view, shots: None)
        found[ONE, "keys of an image's own"] = replace(unread, replaced=(nothing_undone,))
    return found


class _Service:
    """The defense as a service, which draws alike in every arm: by the images, and how often they came in this one."""

    queries = 0

    def __init__(self, room: Room) -> None:
        self._room, self._known = room, dict[tuple[str, int], ByteArray]()
        self.came = Counter[str]()

    def protect(self, images: ByteArray) -> ByteArray:
        """uint8 (n, 3, 112, 112) -> as the defense releases them."""
        digest = _digest(images)
        self.came[digest] += 1
        key = digest, self.came[digest]
        if key not in self._known:
            generator = torch.Generator().manual_seed(int(digest[:12], 16) + self.came[digest])
            self._known[key] = self._room.released(images, generator)
        return self._known[key]


class Students:
    """The attack on one defense, as a whole and in parts; what is the same in all of them is computed once."""

    def __init__(self, room: Room, teacher: nn.Module, params: dict[str, Any], seed: int) -> None:
        self._params, self._teacher, self._seed = params, teacher, seed
        self._service = _Service(room)
        self._view = replace(room.view, surrogate=teacher, gallery=room.gallery_images, oracle=self._service)
        self._materials: dict[str, Arrays] = {}
        self._embedded: dict[str, torch.Tensor] = {}
        self._shown: dict[tuple[str, bytes], ByteArray] = {}

    def answers(self, arm: Arm) -> tuple[Answers, dict[str, Any]]:
        """The similarities (n targets, gallery) without a part, and the log of the attack."""
        attack = registry.build("attack", "linkage_student", self._params | arm.params)
        own: dict[str, Arrays] = {}
        self._service.came.clear()

        def compute(material: Material) -> None:
            kept = own if material.name in arm.anew else self._materials
            if material.key in kept:
                return
            for earlier in material.starts_from:
                compute(earlier)
            view = replace(self._view, materials=self._materials | own)
            kept[material.key] = material.compute(view, torch.Generator().manual_seed(self._seed + 11))

        with ExitStack() as stack:
            for replaced in (arm.replaced, self._shared(arm)):
                for module, name, value in replaced:
                    stack.enter_context(mock.patch.object(module, name, value))
            scope, size = self._view.scope, attack.config.size
            if attack.config.releases > 1:  # Of several releases the student is given, the data differ in nothing.
                one, several = (inversion.inversion_data(scope, size, shots) for shots in (1, attack.config.releases))
                compute(one)
                self._materials[several.key] = self._materials[one.key]
            for material in attack.starts_from(scope):
                compute(material)
            view = replace(self._view, materials=self._materials | own)
            attack.fit(view, torch.Generator().manual_seed(self._seed + 13))
            if arm.given:
                attack.student.at.clear()  # Only the whole attack answers after parts of its training.
            return Answers.of(attack.run(view)), attack.log

    def _shared(self, arm: Arm) -> Iterator[tuple[Any, str, Any]]:
        """What every arm shares: batches in one order, embeddings of the teacher, and what a student is given."""
        batches = adaptation._batches  # As the arm has replaced it.
        images = {} if "scene" in arm.anew else self._shown

        def in_order(draws: Any, wanted: Any, size: int, generator: torch.Generator) -> Iterator[Any]:
            return iter(batches(draws, wanted, size, torch.Generator().manual_seed(self._seed + 17)))

        def embedded(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
            if network is not self._teacher:
                return _EMBED_WITH(network, images)
            digest = _digest(images.cpu().numpy())
            if digest not in self._embedded:
                self._embedded[digest] = _EMBED_WITH(network, images)
            return self._embedded[digest]

        def shown(view: Any, data: Any, rows: torch.Tensor, given: str, config: Any) -> ByteArray:
            key = arm.given or given, rows.numpy().tobytes()
            if key not in images:
                images[key] = _SEEN_OR_REBUILT(view, data, rows, key[0], config)
            return images[key]

        yield adaptation, "_batches", in_order
        yield adaptation, "embed_with", embedded
        yield adaptation, "seen_or_rebuilt", shown
        if arm.given:  # The trial is a step long, and what is given does not depend on it.
            yield adaptation, "_TRIAL", sys.maxsize
            yield adaptation, "min", lambda tried, key: arm.given


_EMBED_WITH, _SEEN_OR_REBUILT = adaptation.embed_with, adaptation.seen_or_rebuilt


def _digest(images: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def judged(scores: npt.NDArray[np.float64], who: npt.NDArray[np.int64], gallery: npt.NDArray[np.int64]) -> Values:
    """Of each target, whether its person is named at rank 1, and the share of its two pairs that is verified rightly.

    Args:
        scores: (n, g), larger is more alike.
        who: (n,), on the targets.
        gallery: (g,), on the gallery's photos.
    """
    pairs = verification_pairs(who, gallery)
    correct = k_fold_accuracy(scores[pairs.left, pairs.right], pairs.same, pairs.fold).correct
    return {
        "rank_1": rank_k_hits(scores, who, gallery, 1).astype(np.float64),
        "accuracy": correct.reshape(2, -1).mean(0),  # The pairs with their own person come first, then the others.
    }


def line(values: Values, whole: Values, who: npt.NDArray[np.int64]) -> dict[str, Any]:
    """For the record: each measure and, beside the whole attack, the difference to it, each with its 95% interval.

    Args:
        values: of ``judged``.
        whole: those of the whole attack; empty where these are of it.
        who: (n,), on the targets.
    """
    people = np.unique(who)
    weights = Bootstrap(200, 0, people).items(who)
    found: dict[str, Any] = {"n": len(who), "people": len(people)}
    for measure, here in values.items():
        estimate = mean(here, weights, people=len(people))
        assert estimate.value is not None and estimate.interval is not None, "there are targets"
        found[measure] = [round(one, 4) for one in (estimate.value, *estimate.interval)]
        if whole:
            less = here - whole[measure]
            drawn = (weights * less).sum(1) / weights.sum(1)
            found[measure] += [round(float(one), 4) for one in (less.mean(), *np.percentile(drawn, [2.5, 97.5]))]
    return found


def measure(
    name: str, room: Room, teacher: nn.Module, params: dict[str, Any], seed: int, found: dict[str, Any],
    keep: Callable[[], None],
) -> None:  # fmt: skip
    """Add the lines that ``found`` lacks, by attack and by what is switched off.

    Args:
        name: of the defense, in ``DEFENSES``.
        room: of the defense.
        teacher: the surrogate recognizer, with gradients.
        params: of the attack.
        seed: of training.
        found: what was measured before.
        keep: writes down what ``found`` holds, after every line.
    """
    students = Students(room, teacher, params, seed)

    def run(attack: str, off: str, arm: Arm) -> None:
        started = time.monotonic()
        answers, log = students.answers(arm)
        about = {"given": log["given"], "seconds": round(time.monotonic() - started)}
        add(attack, off, answers.main, about)
        if not arm.given and off == "nothing":
            for size, scores in answers.at.items():
                add(attack, BUDGETS[round(params["steps"] / size)], scores, {"given": log["given"]})
        keep()

    def add(attack: str, off: str, scores: Any, about: dict[str, Any]) -> None:
        values, lines = judged(np.asarray(scores), room.who, room.gallery), found.setdefault(attack, {})
        each = {} if off == "nothing" else lines["nothing"]["each"]
        whole = {key: np.array(text.split(), dtype=np.float64) for key, text in each.items()}
        lines[off] = about | line(values, whole, room.who)
        print(name, attack, off, lines[off], file=sys.stderr, flush=True)
        if off == "nothing":  # Whoever goes on later needs them for the differences.
            lines[off]["each"] = {key: " ".join(map(str, each.tolist())) for key, each in values.items()}

    if ONE not in found:
        run(ONE, "nothing", Arm(anew=()))
    for (attack, off), arm in missing(name, found).items():
        run(attack, off, arm)


def missing(name: str, found: dict[str, Any]) -> dict[tuple[str, str], Arm]:
    """What ``found`` lacks of a defense whose whole attack it holds, as of ``arms``."""
    everything = arms(name, found[ONE]["nothing"]["given"])
    return {(attack, off): arm for (attack, off), arm in everything.items() if off not in found.get(attack, {})}


def table(measured: dict[str, Any]) -> list[str]:
    """Lines of Markdown: each measure with nothing switched off, and the differences that switching off makes."""
    lines = ["| defense, attack | switched off | given | rank 1 | verification |", "|---|---|---|---|---|"]
    for defense, attacks in measured["defenses"].items():
        for attack, variations in attacks.items():
            for off, found in variations.items():
                cells = [bracketed(found[measure], "" if off == "nothing" else "+") for measure in MEASURES]
                lines.append("| " + " | ".join([f"`{defense}`, {attack}", off, found["given"], *cells]) + " |")
    return lines


def section(measured: dict[str, Any]) -> str:
    """The section of docs/threat_model.md, from its heading to the end of the table."""
    setting, clear = measured["setting"], measured["clear"]
    rank, verified = (bracketed(clear[measure], "") for measure in MEASURES)
    rows = "\n".join(table(measured))
    return f"""{HEADING}

The same for `linkage_student` (`studies/ablation/students.py`): n = {clear["n"]} targets of {clear["people"]} people, a
gallery of {setting["gallery"]}, {setting["attacker"]:,} images of an attacker who has none of these people,
{setting["steps"]} steps of training and as many of the U-Net, seed {setting["seed"]}. *Verification* is of
{2 * clear["n"]} pairs, two of each target, at the threshold of the other folds. Where the targets are clear, the
teacher `{SURROGATE}` reaches {rank} at rank 1 and {verified} in verification; chance is {1 / setting["gallery"]:.3f}
and 0.500. *Given* is what the student sees: releases as they are read (seen), or what the U-Net makes of them
(rebuilt). In all lines the input is the one that the trial of the whole attack chose, except in the line
*the input that the trial prefers*: there it is the other one. Intervals are over people; how much one training
differs from the next is not in them.

{rows}"""


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(2)
    sizes = {"attacker": 1000, "targets": 200, "gallery": 200}
    version = registry.load("attack", "linkage_student").version
    setting = {"steps": given.steps, "seed": given.seed, "version": version} | sizes
    done = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    if done.get("setting") != setting:
        done = {"setting": setting, "defenses": {}}
    data = load_dataset("lfw", {"root": given.lfw, "pairs_per_fold": 120} | sizes)
    recognizer = registry.load("recognizer", SURROGATE)()
    teacher = recognizer.differentiable()
    params = {"warm": given.steps, "steps": given.steps}
    for name, (kind, settings) in DEFENSES.items():
        found = done["defenses"].setdefault(name, {})
        if ONE in found and not missing(name, found):
            continue
        room = Room(kind, settings, data, recognizer, given.seed)
        if "clear" not in done:
            clear, gallery = (adaptation.embed_bytes(teacher, images) for images in (room.clear, room.gallery_images))
            done["clear"] = line(judged(clear @ gallery.T, room.who, room.gallery), {}, room.who)
        measure(name, room, teacher, params, given.seed, found, lambda: write(MEASURED, done))
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
