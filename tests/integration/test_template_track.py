"""A suite of the template track from embeddings to records, in this process, on the faces of the package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_networks import write_card, write_onnx

from ppfr_bench.api import DatasetCard, FaceDataset, Pairs
from ppfr_bench.errors import Unavailable
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute
from ppfr_bench.runner.plan import make_plan
from ppfr_bench.suites import DatasetEntry, Entry, load_suite
from ppfr_bench.template import bfv
from ppfr_bench.testing import example_faces
from ppfr_bench.wrapping import PickledDataset

EXTRA = all(importlib.util.find_spec(name) for name in ("tenseal", "mpyc"))
SMALL = {
    "template_inversion": {"steps": 1, "width": 8, "map_steps": 2, "map_width": 8},
    "template_naming": {"steps": 2, "width": 8}, "template_linkage": {"steps": 2, "width": 8},
    "hill_climbing": {}, "hill_climbing_unlimited": {"queries": 60},
}  # fmt: skip


class Examples(FaceDataset):
    """Four people, four photos each: they are the attacker's and the measured ones at once, in two folds."""

    version = 1
    card = DatasetCard(title="Examples", reference="test", licence="MIT", real_people=False)
    name, revision = "examples", "examples-1"

    def __init__(self) -> None:
        self.defender = self.attacker = self.evaluation = example_faces()
        who = self.evaluation.identities
        left, right = np.triu_indices(len(who), 1)
        same_fold = who[left] // 2 == who[right] // 2
        left, right = left[same_fold], right[same_fold]
        self.pairs = Pairs(left, right, who[left] == who[right], who[left] // 2)
        self.gallery = np.arange(0, 16, 4)
        self.targets = np.setdiff1d(np.arange(16), self.gallery)
        self.canary = self.evaluation, self.pairs


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))


def records(tmp_path: Path, rows: tuple[str, ...], attacks: tuple[str, ...]) -> Iterator[Record]:
    """Of the suite template_smoke on the examples, with two recognizers of 16 numbers."""
    cards = [
        write_card(tmp_path, write_onnx(tmp_path / f"{label}.onnx", seed=seed), label=label)
        for seed, label in enumerate(("surrogate", "unseen"))
    ]
    suite = load_suite("template_smoke").model_copy(
        update={
            "recognizers": tuple(map(str, cards)), "surrogate": str(cards[0]), "dataset": DatasetEntry(name="examples"),
            "defense": tuple(Entry(name=name) for name in rows),
            "attack": tuple(Entry(name=name, params=SMALL[name]) for name in attacks),
        }
    )  # fmt: skip
    data, store = Examples(), ResultStore(tmp_path / "results")
    plan = make_plan(suite, data, pickled=PickledDataset.pack(data))
    execute(plan, store, where=Where("inline"), tell=lambda text: None)
    return store.records("template_smoke")


def test_every_attack_gives_numbers_between_the_controls(tmp_path: Path) -> None:
    found = {}
    for record in records(tmp_path, ("plain_template", "random_template", "polyprotect"), tuple(SMALL)):
        assert record.status == "ok", (record.defense.label, record.slot, record.reason)
        found[record.defense.label, record.slot] = record
    for recognizer in ("surrogate", "unseen"):
        plain = found["plain_template", ("attack", "template_naming", recognizer)].metrics["rank_1"]
        assert plain.leakage is not None and plain.leakage.value == 1
        linked = found["plain_template", ("attack", "template_linkage", recognizer)]
        assert linked.sets == "unlinkability" and "linked_d_sys" in linked.metrics
        climbed = found["plain_template", ("attack", "hill_climbing_unlimited", recognizer)]
        assert climbed.sets == "unlimited_queries" and climbed.log["budget"]["unit"] == "queries"
        utility = found["polyprotect", ("utility", "", recognizer)]
        assert {"same_decisions", "fmr", "fnmr", "bytes_up", "retention"} <= set(utility.metrics)
        assert utility.log["timing"]["decisions"] == len(Examples().pairs)
        assert found["plain_template", ("utility", "", recognizer)].metrics["retention"].value.value == 1
    inverted = found["polyprotect", ("attack", "template_inversion", "unseen")]
    assert inverted.sets == "irreversibility" and {"type_1", "type_2"} <= set(inverted.metrics)


@pytest.mark.skipif(not EXTRA, reason="the extra `template`")
def test_encrypted_rows_decide_as_plain_templates_do(tmp_path: Path) -> None:
    utilities = [
        record for record in records(tmp_path, ("cryptomask", "ckks_cosine"), ("hill_climbing",))
        if record.cell == "utility"
    ]  # fmt: skip
    assert len(utilities) == 4
    for record in utilities:
        assert record.status == "ok", record.reason
        retention = record.metrics["retention"].value.value
        assert retention is not None and retention > 0.9
        if record.defense.label == "cryptomask":
            assert record.metrics["same_decisions"].value.value == 1


def test_without_the_extra_the_rows_are_skipped_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise Unavailable("encrypted templates need tenseal", "pip install 'ppfr-bench[template]'")

    monkeypatch.setattr(bfv, "sealapi", missing)
    for record in records(tmp_path, ("cryptomask",), ("template_naming",)):
        if record.defense.label == "cryptomask":
            assert record.status == "skipped" and "pip install 'ppfr-bench[template]'" in record.reason
