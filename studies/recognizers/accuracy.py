"""How many clear pairs each built-in recognizer judges rightly: LFW, and CFP frontal and frontal to profile.

    python studies/recognizers/accuracy.py --lfw FOLDER --cfp FOLDER

It measures folds 6 to 10 of each protocol, which are those that the boards measure, and writes ``accuracy.json`` beside
this file, a recognizer and a protocol at a time; it goes on where it was stopped. Embeddings are kept in the cache.
``python studies/reference_pages.py`` then writes the table of docs/reference/recognizers.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ppfr_bench.assets import cache_dir
from ppfr_bench.datasets import load_dataset
from ppfr_bench.metrics.verification import k_fold_accuracy
from ppfr_bench.recognizers import load_recognizer, recognizer_class, recognizer_names
from ppfr_bench.recognizers.store import FILE, CachedEmbedder, EmbeddingStore
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate
from ppfr_bench.scorers.linkage import accuracy_draws

MEASURED = Path(__file__).with_name("accuracy.json")
PROTOCOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "LFW": ("lfw", {}), "CFP-FF": ("cfp", {"protocol": "FF"}), "CFP-FP": ("cfp", {"protocol": "FP"}),
}  # fmt: skip
REPLICATES, BATCH = 200, 64


def accuracy(name: str, protocol: str, root: Path) -> dict[str, Any]:
    """Of folds 6 to 10: the share of right decisions, each fold at the threshold of the others, and its interval."""
    kind, params = PROTOCOLS[protocol]
    data = load_dataset(kind, params | {"root": str(root)})
    recognizer, faces, pairs = load_recognizer(name), data.evaluation, data.pairs
    embedder = CachedEmbedder(name, recognizer, EmbeddingStore(cache_dir() / FILE))
    rows = np.arange(len(faces.identities))
    embedded = embedder.embed(faces.load(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH))
    scores = recognizer.similarity(embedded[pairs.left], embedded[pairs.right])
    found = k_fold_accuracy(scores, pairs.same, pairs.fold)
    people = Bootstrap(REPLICATES, 0, np.unique(faces.identities))
    drawn = accuracy_draws(found.correct, pairs.same, people.pairs(faces.identities, pairs))
    value = estimate(found.accuracy, len(pairs), drawn, people=people.people)
    assert value.interval is not None
    return {"value": value.value, "interval": list(value.interval), "pairs": len(pairs), "people": people.people,
            "version": recognizer.version, "revision": data.revision}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--lfw", type=Path, required=True)
    parser.add_argument("--cfp", type=Path, required=True)
    parser.add_argument("--recognizer", choices=recognizer_names(), action="append", help="Only this one; repeatable.")
    asked = parser.parse_args()
    for name in asked.recognizer or recognizer_names():
        for protocol, (kind, _) in PROTOCOLS.items():
            measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
            done = measured.get(name, {}).get(protocol)
            if done is not None and done["version"] == recognizer_class(name).version:
                continue
            found = accuracy(name, protocol, asked.lfw if kind == "lfw" else asked.cfp)
            measured.setdefault(name, {})[protocol] = found
            ordered = {one: measured[one] for one in sorted(measured)}
            MEASURED.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8", newline="\n")
            print(f"{name} {protocol}: {found['value']} {found['interval']}", flush=True)


if __name__ == "__main__":
    main()
