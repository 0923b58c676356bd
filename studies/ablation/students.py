"""What each part of a student is worth, which is a recognizer trained on a defense: one switched off at a time.

    PYTHONPATH=studies python -m ablation.students --lfw FOLDER [--steps N] [--seed N]

It writes ``students.json`` beside this file, a defense at a time, and goes on where it was stopped; then it prints
the table of docs/threat_model.md. The data are those of ``lfw_quick``; nothing is recorded on a board.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from ablation.ablation import DEFENSES, Part, Room, bracketed, measured_anew, nothing
from torch import nn

from ppfr_bench import registry
from ppfr_bench.learning import adaptation, inversion
from ppfr_bench.metrics.identification import rank_k_hits
from ppfr_bench.metrics.verification import k_fold_accuracy
from ppfr_bench.scorers.linkage import verification_pairs

MEASURED = Path(__file__).with_name("students.json")
SURROGATE = "faceplugin"
MEASURES = ("rank_1", "accuracy")


class _Frozen(adaptation.Student):
    """Only the two convolutions before the recognizer learn."""

    def __init__(self, teacher: nn.Module, generator: torch.Generator) -> None:
        super().__init__(teacher, generator)
        self.recognizer.requires_grad_(False)


def _parts(room: Room, name: str) -> dict[str, tuple[Part, dict[str, Any], tuple[str, ...]]]:
    """What is switched off: a context, parameters, and the materials that stay as they are."""
    rebuilt = ("undone", "reading", "scene", "unet")
    module = sys.modules[registry.load("attack", "linkage_student").__module__]
    parts: dict[str, tuple[Part, dict[str, Any], tuple[str, ...]]] = {
        "nothing": (nothing, {}, ()),
        "training of the whole recognizer": (lambda: mock.patch.object(adaptation, "Student", _Frozen), {}, rebuilt),
        "the gallery through the oracle": (
            lambda: mock.patch.object(module, "_OF_GALLERY", 0), {}, (*rebuilt, "student")
        ),
    }  # fmt: skip
    if len(room.view.targets) > 1:
        parts["a second release of its own images"] = (nothing, {"draws": 1}, rebuilt)
    if not room.view.releases_image:
        read: Part = lambda: mock.patch.object(inversion, "read_reading", lambda view: None)  # noqa: E731
        parts["reading place by place"] = (read, {}, ("undone", "reading"))
    if DEFENSES[name][1].get("key") == "image":
        undone: Part = lambda: mock.patch.object(inversion, "read_undone", lambda view, shots: None)  # noqa: E731
        parts["keys of an image's own"] = (undone, {}, ("undone", "reading"))
    return parts


def measure(room: Room, name: str, steps: int) -> dict[str, Any]:
    """By what is switched off: each measure, and its difference to nothing switched off."""
    teacher = registry.load("recognizer", SURROGATE)().differentiable()
    room.view = replace(room.view, surrogate=teacher, gallery=room.gallery_images)
    pairs = verification_pairs(room.who, room.gallery)
    found: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for off, (part, params, shared) in _parts(room, name).items():
        started = time.monotonic()
        answers, log = room.answers("linkage_student", {"warm": steps, "steps": steps} | params, part, shared=shared)
        scores = np.asarray(answers.main)
        correct = k_fold_accuracy(scores[pairs.left, pairs.right], pairs.same, pairs.fold).correct
        # Each target has a pair with its own person and one with another.
        values = {
            "rank_1": rank_k_hits(scores, room.who, room.gallery, 1).astype(float),
            "accuracy": correct.reshape(2, -1).mean(0),
        }
        whole = whole or values
        found[off] = {"seconds": round(time.monotonic() - started), "given": log["given"]} | {
            measure: room.said(here) + ([] if off == "nothing" else room.said(here - whole[measure]))
            for measure, here in values.items()
        }
        print(name, off, found[off], file=sys.stderr, flush=True)
    return found


def table(measured: dict[str, Any]) -> list[str]:
    """Lines of Markdown: each measure with nothing switched off, and the differences that switching off makes."""
    lines = ["| defense | switched off | given | rank 1 | verification |", "|---|---|---|---|---|"]
    for defense, variations in measured["defenses"].items():
        for off, found in variations.items():
            cells = [bracketed(found[measure], "" if off == "nothing" else "+") for measure in MEASURES]
            lines.append("| " + " | ".join([f"`{defense}`", off, found["given"], *cells]) + " |")
    return lines


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    setting = {"steps": given.steps, "seed": given.seed, "targets": 200, "attacker": 2000}
    print("\n".join(table(measured_anew(MEASURED, setting, given.lfw, measure))))


if __name__ == "__main__":
    main()
