"""LFW and CFP give the same number to the last digit as ``lfw``/``cfp``, as a folder with pairs, and as a ``.bin``."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from made_photographs import ALIGNED, make_cfp, make_lfw

from ppfr_bench.api import Faces, FloatArray, IntArray, Pairs, Recognizer, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.preparation import prepare
from ppfr_bench.metrics.verification import k_fold_accuracy
from ppfr_bench.recognizers import load_recognizer
from ppfr_bench.testing import TinyRecognizer

SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {SHARED / name}: set PPFR_BENCH_SHARED to the validation data")
    return SHARED / name


class Verification:
    """Scores, folds and accuracy of a route, each distinct image embedded once."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer, self.known = recognizer, dict[bytes, FloatArray]()

    def __call__(self, faces: Faces, pairs: Pairs) -> tuple[FloatArray, IntArray, float]:
        rows = []
        for batch in faces.batches(64):
            digests = [hashlib.sha256(image.tobytes()).digest() for image in batch]
            new = [i for i, digest in enumerate(digests) if digest not in self.known]
            if new:
                vectors = self.recognizer.embed(to_float(batch[new])).double().numpy()
                self.known |= {digests[i]: vector for i, vector in zip(new, vectors, strict=True)}
            rows += [self.known[digest] for digest in digests]
        vectors = np.stack(rows)
        scores = self.recognizer.similarity(vectors[pairs.left], vectors[pairs.right])
        return scores, pairs.fold, k_fold_accuracy(scores, pairs.same, pairs.fold).accuracy


def write_bin(path: Path, root: Path, faces: Faces, pairs: Pairs, protocol: int = 4) -> Path:
    """A verification set as InsightFace packs it: the files of every pair, one after the other."""
    files = [
        (root / faces.names[int(side)]).read_bytes()
        for pair in zip(pairs.left, pairs.right, strict=True)
        for side in pair
    ]
    with path.open("wb") as file:
        pickle.dump((files, pairs.same.tolist()), file, protocol=protocol)
    return path


def routes(name: str, root: Path, work: Path, verify: Verification, protocol: str = "") -> float:
    """The accuracy on which all three routes agree: scores, folds and thresholds too."""
    config = {"root": str(root)} | ({"protocol": protocol} if protocol else {})
    own = load_dataset(name, config)
    prepare(name, root, work / "folder", ALIGNED)
    packed = write_bin(work / "set.bin", root, *own.canary)
    prepare("insightface-bin", packed, work / "bin")
    names = {"folder": f"pairs_{protocol}.csv" if protocol else "pairs.csv", "bin": "pairs.csv"}
    expected = verify(*own.canary)
    measured = verify(own.evaluation, own.pairs)
    for route, file in names.items():
        params = {"root": str(work / route / "images"), "pairs": file, "attacker_folds": 5}
        other = load_dataset("folder", params)
        for got, want in zip(verify(*other.canary), expected, strict=True):
            assert np.array_equal(got, want), route
        scores, fold, accuracy = verify(other.evaluation, other.pairs)
        assert np.array_equal(scores, measured[0]) and accuracy == measured[2] and len(set(fold)) == 5, route
    again = load_dataset(name, config | {"root": str(work / "folder")})
    assert again.revision == own.revision
    return expected[2]


def test_three_routes_to_lfw(tmp_path: Path) -> None:
    assert 0.5 < routes("lfw", make_lfw(tmp_path / "lfw"), tmp_path, Verification(TinyRecognizer())) <= 1


@pytest.mark.parametrize("protocol", ["FF", "FP"])
def test_three_routes_to_cfp(tmp_path: Path, protocol: str) -> None:
    assert 0.5 < routes("cfp", make_cfp(tmp_path / "cfp"), tmp_path, Verification(TinyRecognizer()), protocol) <= 1


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize(("name", "protocol", "least"), [("lfw", "", 0.992), ("cfp", "FF", 0.99), ("cfp", "FP", 0.935)])
def test_three_routes_on_the_real_data(tmp_path: Path, name: str, protocol: str, least: float) -> None:
    accuracy = routes(name, shared(name), tmp_path, Verification(load_recognizer("mobilefacenet")), protocol)
    print(f"{name} {protocol}: {accuracy:.6f} by all three routes")
    assert accuracy > least
