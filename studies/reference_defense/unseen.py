"""What recognizers that the reference defense was not trained on make of its releases, on photographs.

    python studies/reference_defense/unseen.py choose --cfp FOLDER
    python studies/reference_defense/unseen.py judge --lfw FOLDER

``choose`` measures each strength on every fifth frontal pair of CFP's folds 6 to 10, so that the greatest at which the
mean accuracy reaches what the paper claims can be chosen without LFW. ``judge`` measures the strengths of the boards on
all pairs of LFW's folds 6 to 10, which have no part in that choice. Both photographs of a pair are protected. It writes
``unseen.json`` beside this file, a recognizer and a strength at a time, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppfr_bench import registry
from ppfr_bench.api import Defense, FaceDataset, Pairs, to_bytes, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.metrics.verification import k_fold_accuracy
from ppfr_bench.recognizers import load_recognizer
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate
from ppfr_bench.scorers.linkage import accuracy_draws

MEASURED = Path(__file__).with_name("unseen.json")
DEFENSE, OTHER = "stochastic_anonymizer", "face_renderer"  # The other design has no strength.
UNSEEN = ("dlib_resnet", "faceres", "mobilefacenet")
STRENGTHS = {"choose": (0.2, 0.35, 0.5, 0.7, 1.0), "judge": (0.35, 0.7, 1.0)}
EVERY = {"choose": 5, "judge": 1}
REPLICATES, BATCH, THREADS = 200, 64, 2


def chosen_pairs(data: FaceDataset, every: int) -> tuple[np.ndarray[Any, Any], Pairs]:
    """The photographs of every so-many-th pair, by their rows, and these pairs."""
    kept, pairs = slice(None, None, every), data.pairs
    rows, places = np.unique(np.concatenate([pairs.left[kept], pairs.right[kept]]), return_inverse=True)
    left, right = np.split(places, 2)
    return rows, Pairs(left, right, pairs.same[kept], pairs.fold[kept])


def accuracy(name: str, defense: Defense, data: FaceDataset, every: int) -> dict[str, Any]:
    """Of protected pairs: the share of right decisions, each fold at the threshold of the others, and its interval."""
    recognizer = load_recognizer(name)
    rows, pairs = chosen_pairs(data, every)
    draws = torch.Generator().manual_seed(0)
    parts = []
    for at in range(0, len(rows), BATCH):
        released = defense.protect(to_float(data.evaluation.load(rows[at : at + BATCH])), draws)
        parts.append(recognizer.embed(to_float(to_bytes(released))).numpy())
    embedded = np.concatenate(parts)
    found = k_fold_accuracy(recognizer.similarity(embedded[pairs.left], embedded[pairs.right]), pairs.same, pairs.fold)
    identities = data.evaluation.identities[rows]
    people = Bootstrap(REPLICATES, 0, np.unique(identities))
    drawn = accuracy_draws(found.correct, pairs.same, people.pairs(identities, pairs))
    value = estimate(found.accuracy, len(pairs), drawn, people=people.people)
    assert value.interval is not None
    return {"value": value.value, "interval": list(value.interval), "pairs": len(pairs), "people": people.people,
            "version": recognizer.version, "defense_version": defense.version, "revision": data.revision}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("task", choices=list(STRENGTHS))
    parser.add_argument("--cfp", type=Path)
    parser.add_argument("--lfw", type=Path)
    asked = parser.parse_args()
    root = asked.cfp if asked.task == "choose" else asked.lfw
    if root is None:
        parser.error("give the folder of the data: --cfp to choose, --lfw to judge")
    torch.set_num_threads(THREADS)
    name, params = ("cfp", {"protocol": "FF"}) if asked.task == "choose" else ("lfw", {})
    data = load_dataset(name, params | {"root": str(root)})
    judged = {str(at): registry.build("defense", DEFENSE, {"strength": at}) for at in STRENGTHS[asked.task]}
    for label, defense in (judged | {OTHER: registry.build("defense", OTHER, {})}).items():
        for recognizer in UNSEEN:
            measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
            at = measured.setdefault(asked.task, {}).setdefault(label, {})
            if at.get(recognizer, {}).get("defense_version") == defense.version:
                continue
            at[recognizer] = accuracy(recognizer, defense, data, EVERY[asked.task])
            MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8", newline="\n")
            print(f"{asked.task} {label} {recognizer}: {at[recognizer]['value']}", flush=True)


if __name__ == "__main__":
    main()
