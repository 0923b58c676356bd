"""What each new part of the reconstruction attacks is worth: switched off, one at a time, on five defenses.

    python studies/ablation/ablation.py --lfw FOLDER [--steps N] [--seed N]

It writes ``measured.json`` beside this file, a defense at a time, and goes on where it was stopped; then it prints
the table of docs/threat_model.md. The data are those of ``lfw_quick``; nothing is recorded on a board.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import registry
from ppfr_bench.api import Answers, Arrays, AttackerView, ByteArray, Material, to_bytes, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.learning import inversion, prior_inversion, unet
from ppfr_bench.learning.face_prior import FacePrior
from ppfr_bench.metrics import LEAKING, load_image_metric
from ppfr_bench.metrics.identification import rank_k_hits
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.stages.release import release

MEASURED = Path(__file__).with_name("measured.json")
DEFENSES: dict[str, tuple[str, dict[str, Any]]] = {
    "stochastic_anonymizer": ("stochastic_anonymizer", {}),
    "pixelate": ("pixelate", {}),
    "gaussian_blur": ("gaussian_blur", {}),
    "block_permutation_per_image": ("block_permutation", {"key": "image"}),
    "partialface": ("partialface", {}),
}
DATA = "lfw"
OF_THE_PRIOR = "pixelate"  # The defense on which the prior of faces is judged.
PRIOR = "gradient inversion"
RECOGNIZER = "mobilefacenet"
_BATCH = 64
_SHOTS = 4

Part = Callable[[], Any]  # A context in which a part is switched off.


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _parts(defense: str) -> dict[str, tuple[Part, dict[str, Any]]]:
    """What is switched off of the attack ``unet``: a context, and parameters."""
    parts: dict[str, tuple[Part, dict[str, Any]]] = {
        "nothing": (_nothing, {}),
        "cycles of training": (lambda: mock.patch.object(unet, "budgets", lambda steps: ()), {}),
    }
    if registry.load("defense", DEFENSES[defense][0]).releases_image():
        parts["pre-trained weights"] = (_nothing, {"pretrained": False})
    else:
        parts["reading place by place"] = (lambda: mock.patch.object(inversion, "read_reading", lambda view: None), {})
    if DEFENSES[defense][1].get("key") == "image":
        parts["keys of an image's own"] = (
            lambda: mock.patch.object(inversion, "read_undone", lambda view, shots: None), {}
        )  # fmt: skip
    return parts


class _Untrained:
    """In place of the prior of faces: the same network with the weights that it had before training."""

    @staticmethod
    def on(device: torch.device) -> FacePrior:
        """A new one, always with the same weights, on the device."""
        with unet.weights_from(torch.Generator().manual_seed(0)):
            network = FacePrior()
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last).to(device)


def _parts_of_the_prior() -> dict[str, tuple[Part, dict[str, Any]]]:
    """What is switched off of the attack ``gradient_inversion``; none of it changes what the attack starts from."""
    return {
        "nothing": (_nothing, {}),
        "training of the prior": (lambda: mock.patch.object(prior_inversion, "face_prior", _Untrained), {}),
        "the prior": (lambda: mock.patch.object(prior_inversion, "NOT_FOR", (DATA,)), {}),
    }


class Room:
    """One defense, and the attacker's view of it."""

    def __init__(self, kind: str, params: dict[str, Any], data: Any, recognizer: Any, seed: int) -> None:
        self.defense = registry.build("defense", kind, params)
        self.defense.fit(data.defender, torch.Generator().manual_seed(seed))
        self.recognizer = recognizer
        self.clear = data.evaluation.load(data.targets)
        self.who = data.evaluation.identities[data.targets]
        self.gallery = data.evaluation.identities[data.gallery]
        self.gallery_images = data.evaluation.load(data.gallery)
        self._gallery = self._embed(self.gallery_images)
        self._bootstrap = Bootstrap(200, 0, np.unique(self.who))
        self._seed = seed
        queries = torch.Generator().manual_seed(seed + 7)
        room = self

        class Oracle:
            queries = 0

            def protect(self, images: ByteArray) -> ByteArray:
                return room.released(images, queries)

        targets = [self.released(self.clear, torch.Generator().manual_seed(seed + shot)) for shot in range(_SHOTS)]
        if np.array_equal(targets[0], targets[1]):
            targets = targets[:1]
        own = torch.Generator().manual_seed(seed + 5)
        self.view = AttackerView(
            knowledge="informed", auxiliary=data.attacker, targets=np.stack(targets),
            auxiliary_protected=np.concatenate([self.released(part, own) for part in data.attacker.batches(_BATCH)]),
            oracle=Oracle(), defense=self.defense, render=lambda released: self._rendered(released),
            releases_image=self.defense.releases_image(), photographs_of=data.name,
        )  # fmt: skip
        self._materials: dict[str, Arrays] = {}

    def released(self, images: ByteArray, generator: torch.Generator) -> ByteArray:
        """uint8 (n, 3, 112, 112) -> as the defense releases them."""
        parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        return np.concatenate([release(self.defense, part, generator, may_be_clear=True) for part in parts])

    def _rendered(self, released: ByteArray) -> ByteArray:
        with torch.no_grad():
            return to_bytes(self.defense.render(to_float(released)))

    def _embed(self, images: ByteArray) -> npt.NDArray[np.float64]:
        parts = [to_float(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        return np.concatenate([self.recognizer.embed(part).double().numpy() for part in parts])

    def answers(
        self, attack: str, params: dict[str, Any], off: Part, changed: bool | None = None
    ) -> tuple[Answers, dict[str, Any]]:
        """Of the attack with a part switched off; what does not depend on the part is computed once.

        Args:
            attack: by name.
            params: of the attack.
            off: a context in which the part is switched off.
            changed: whether what the attack starts from depends on the part. Default: unless nothing is switched off.
        """
        mounted = registry.build("attack", attack, params)
        changed = off is not _nothing if changed is None else changed
        materials = {} if changed else self._materials
        with ExitStack() as stack:
            stack.enter_context(off())

            def compute(material: Material) -> None:
                for earlier in material.starts_from:
                    compute(earlier)
                if material.key in materials:
                    return
                if changed and material.name in ("undone", "reading") and material.key in self._materials:
                    materials[material.key] = self._materials[material.key]
                    return
                generator = torch.Generator().manual_seed(self._seed + 11)
                materials[material.key] = material.compute(replace(self.view, materials=materials), generator)

            for material in mounted.starts_from(self.view.scope):
                compute(material)
            mounted.fit(replace(self.view, materials=materials), torch.Generator().manual_seed(self._seed + 13))
            return Answers.of(mounted.run(replace(self.view, materials=materials))), mounted.log

    def judged(self, answers: Answers) -> dict[str, npt.NDArray[np.float64]]:
        """Each measure of the answer that is given by it, and the hits at rank 1 of the main one: (n,) each."""
        found = {}
        for metric in LEAKING:
            rebuilt = answers.by_measure.get(metric, answers.main)
            values = [
                load_image_metric(metric).values(to_float(one), to_float(clear))
                for one, clear in zip(np.array_split(rebuilt, 4), np.array_split(self.clear, 4), strict=True)
            ]
            found[metric] = np.concatenate(values)
        scores = self.recognizer.similarity_matrix(self._embed(answers.main), self._gallery)
        return found | {"rank_1": rank_k_hits(scores, self.who, self.gallery, 1).astype(np.float64)}

    def said(self, values: npt.NDArray[np.float64]) -> list[float]:
        """The mean and its 95% interval over people."""
        weights = self._bootstrap.items(self.who)
        drawn = (weights * values).sum(1) / weights.sum(1)
        return [round(float(one), 4) for one in (values.mean(), *np.percentile(drawn, [2.5, 97.5]))]


def missing(name: str, found: dict[str, Any]) -> list[str]:
    """Attacks of the table that are not among what was found of a defense."""
    return [one for one in ("unet", *((PRIOR,) if name == OF_THE_PRIOR else ())) if one not in found]


def measure(room: Room, name: str, steps: int, found: dict[str, Any]) -> dict[str, Any]:
    """By attack and by what is switched off: each measure, and its difference to nothing switched off.

    Args:
        room: of the defense.
        name: of the defense.
        steps: of training.
        found: earlier, by attack; it is not measured again.
    """
    runs: dict[str, dict[str, tuple[str, dict[str, Any], Part]]] = {
        "unet": {off: ("unet", {"steps": steps} | params, part) for off, (part, params) in _parts(name).items()}
    }
    if len(room.view.targets) > 1:
        several = ("averaging", {"warm": steps, "steps": max(20, steps * 2 // 3), "releases": _SHOTS}, _nothing)
        runs[f"averaging of {_SHOTS} releases"] = {"nothing": several}
    if name == OF_THE_PRIOR:
        search = {"warm": steps, "steps": 30, "averaged": 1}
        runs[PRIOR] = {
            off: ("gradient_inversion", search | params, part) for off, (part, params) in _parts_of_the_prior().items()
        }
    for attack, variations in runs.items():
        if attack in found:
            continue
        whole: dict[str, npt.NDArray[np.float64]] = {}
        for off, (plugin, params, part) in variations.items():
            started = time.monotonic()
            answers, _ = room.answers(plugin, params, part, False if attack == PRIOR else None)
            values = room.judged(answers)
            whole = whole or values
            one = {"seconds": round(time.monotonic() - started)}
            found.setdefault(attack, {})[off] = one | {
                metric: room.said(here) + ([] if off == "nothing" else room.said(here - whole[metric]))
                for metric, here in values.items()
            }
            if off == "nothing" and answers.by_measure:
                alike = room.judged(Answers(answers.main))
                found[attack]["answers by measure"] = {
                    metric: room.said(here) + room.said(here - whole[metric]) for metric, here in alike.items()
                }
            print(name, attack, off, found[attack][off], file=sys.stderr, flush=True)
    return found


def table(measured: dict[str, Any]) -> list[str]:
    """Lines of Markdown: each measure with nothing switched off, and the differences that switching off makes."""
    lines = ["| defense, attack | switched off | LPIPS | SSIM | MS-SSIM | rank 1 |", "|---|---|---|---|---|---|"]
    for defense, attacks in measured["defenses"].items():
        for attack, variations in attacks.items():
            for off, found in variations.items():
                values = [found[metric] for metric in (*LEAKING, "rank_1")]
                cells = [bracketed(one, "+") if off != "nothing" else bracketed(one, "") for one in values]
                lines.append("| " + " | ".join([f"`{defense}`, {attack}", off, *cells]) + " |")
    return lines


def bracketed(found: list[float], sign: str) -> str:
    """A value, or the difference behind it where there is one, with its interval."""
    value, low, high = (f"{one:{sign}.3f}" for one in found[-3:])
    return f"{value} [{low}, {high}]"


def write(file: Path, measured: dict[str, Any]) -> None:
    """Replace the file as a whole, so that whoever is killed leaves the old one or the new one."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(2)
    setting = {"steps": given.steps, "seed": given.seed, "targets": 200, "attacker": 2000}
    done = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    if done.get("setting") != setting:
        done = {"setting": setting, "defenses": {}}
    data = load_dataset(
        DATA, {"root": given.lfw, "pairs_per_fold": 120, "attacker": 2000, "targets": 200, "gallery": 200}
    )
    recognizer = registry.load("recognizer", RECOGNIZER)()
    for name in DEFENSES:
        found = done["defenses"].setdefault(name, {})
        if not missing(name, found):
            continue
        room = Room(*DEFENSES[name], data, recognizer, given.seed)
        done["defenses"][name] = measure(room, name, given.steps, found)
        write(MEASURED, done)
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
