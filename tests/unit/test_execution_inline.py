"""A run in this process, with plug-ins that fail: a failure stays with the cells that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from made_networks import write_card, write_onnx

from ppfr_bench import registry
from ppfr_bench.api import Attack, AttackCard, AttackerView, DatasetCard, FaceDataset, Material, Pairs, Scope
from ppfr_bench.errors import Unavailable
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.estimates import Times
from ppfr_bench.runner.execution import Outcome, Where, execute
from ppfr_bench.runner.plan import Plan, make_plan
from ppfr_bench.scorers.bootstrap import measurement
from ppfr_bench.suites import DatasetEntry, Entry, load_suite
from ppfr_bench.testing import example_faces
from ppfr_bench.wrapping import PickledDataset


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    yield
    registry._added.clear()


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


class Examples(FaceDataset):
    """The faces that ship with the package: four people, four photos each."""

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


LINKAGE: type[Attack] = registry.load("attack", "linkage")


class Blinking(LINKAGE):  # type: ignore[misc,valid-type]
    """Fails where all targets are black."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        if not np.any(view.targets):
            raise RuntimeError("nothing to see")
        found: npt.NDArray[np.float64] = super().run(view)
        return found


class Absent(LINKAGE):  # type: ignore[misc,valid-type]
    """Needs what this machine has not."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        raise Unavailable("npm is missing", "Install it.")


class Quitting(LINKAGE):  # type: ignore[misc,valid-type]
    """Ends its process, as far as it is concerned."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        raise SystemExit(3)


class Rambling(LINKAGE):  # type: ignore[misc,valid-type]
    """Answers something else than was asked."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        self.log["shots"] = 1
        return np.zeros((2, 3))


class Silent(LINKAGE):  # type: ignore[misc,valid-type]
    """Does not say how many releases it made use of."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        return np.zeros((12, 4))


class Lost(LINKAGE):  # type: ignore[misc,valid-type]
    """Divides by zero."""

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        self.log["shots"] = 1
        return np.full((12, 4), np.nan)


class Looking(Attack):
    """Aware, starts from something, and is given protected photos of the gallery's people."""

    version = 1
    card = AttackCard(
        title="Looking", family="test", reference="test", licence="MIT", measures="linkage", knowledge="aware",
        needs_protected_gallery=True,
    )  # fmt: skip

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        return (Material("level", {"version": 1}, level),)

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        assert view.protected_gallery is not None
        self.log["shots"] = 1
        mean = view.material(self.starts_from(view.scope)[0])["mean"]
        return np.full((len(view.targets[0]), len(view.protected_gallery)), float(mean))


def level(view: AttackerView, generator: torch.Generator) -> dict[str, npt.NDArray[Any]]:
    assert view.auxiliary_protected is not None
    return {"mean": np.asarray(np.mean(view.auxiliary_protected))}


class Late(registry.load("defense", "pixelate")):  # type: ignore[misc]
    """Keeps its contract on a few images, and fails on many."""

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if len(images) > 8:
            raise MemoryError("too many")
        found: torch.Tensor = super().protect(images, generator)
        return found


class Broken(registry.load("defense", "pixelate")):  # type: ignore[misc]
    """Breaks its contract."""

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        raise ValueError("of no use")


class Raw(registry.load("scorer", "linkage")):  # type: ignore[misc]
    """Keeps draws with all their digits, which would not come back as they were."""

    def score(self, inputs: Any, truth: Any, bootstrap: Any) -> dict[str, Measurement]:
        return {"rank_1": measurement("rank_1", Estimate(0.5, None, 12, "", (1 / 3,) * bootstrap.replicates))}


class Scored(LINKAGE):  # type: ignore[misc,valid-type]
    """Is scored by that."""

    card = LINKAGE.card.model_copy(update={"measures": "raw"})


ATTACKS = {"blinking": Blinking, "absent": Absent, "quitting": Quitting, "rambling": Rambling, "silent": Silent,
           "lost": Lost, "looking": Looking, "scored": Scored}  # fmt: skip
DEFENSES = {"late": Late, "broken": Broken}


def real_plan(tmp_path: Path, defenses: Sequence[str], attacks: Sequence[str]) -> Plan:
    """Of the suite smoke, on the examples, with a recognizer of 16 numbers."""
    registry.add_class("scorer", "raw", Raw)
    for name, attack in ATTACKS.items():
        registry.add_class("attack", name, attack)
    for name, defense in DEFENSES.items():
        registry.add_class("defense", name, defense)
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx"))
    suite = load_suite("smoke").model_copy(
        update={
            "recognizers": (str(card),), "surrogate": "", "dataset": DatasetEntry(name="examples"),
            "defense": tuple(Entry(name=name) for name in defenses),
            "attack": tuple(Entry(name=name) for name in attacks),
        }
    )  # fmt: skip
    data = Examples()
    return make_plan(suite, data, pickled=PickledDataset.pack(data))


def outcomes(store: ResultStore) -> dict[tuple[str, str], tuple[str, str]]:
    """Status and reason, by defense and attack or kind of cell."""
    return {
        (one.defense.label, one.slot[1] or one.cell): (one.status, one.reason) for one in store.records("smoke")
    }  # fmt: skip


def inline(plan: Plan, store: ResultStore, **options: Any) -> Outcome:
    return execute(plan, store, where=Where("inline"), tell=lambda text: None, **options)


def test_what_goes_wrong_in_a_plugin_is_the_result_of_its_cells_alone(tmp_path: Path, store: ResultStore) -> None:
    plan = real_plan(tmp_path, ("no_defense", "blackout", "pixelate", "late", "broken"), ("linkage", *ATTACKS))
    outcome = inline(plan, store)
    found = outcomes(store)
    good = ("no_defense", "blackout", "pixelate")
    for defense in good:
        expected = {"utility": "ok", "linkage": "ok", "looking": "ok", "absent": "skipped", "quitting": "failed",
                    "rambling": "failed", "silent": "failed", "lost": "failed", "scored": "failed",
                    "blinking": "failed" if defense == "blackout" else "ok"}  # fmt: skip
        assert {what: found[defense, what][0] for what in expected} == expected, found
    says = {
        "quitting": "SystemExit: 3", "absent": "npm is missing\nInstall it.",
        "blinking": "RuntimeError: nothing to see", "scored": "have more than 5 digits",
        "rambling": "UserError: attack rambling: expected float (12, 4), got float64 (2, 3)",
        "silent": "UserError: attack silent: its log: shots", "lost": "attack lost: answered NaN or infinite values",
    }  # fmt: skip
    for attack, words in says.items():
        assert words in found["blackout", attack][1], attack
    for defense, words in (("late", "MemoryError: too many"), ("broken", "defense broken breaks the contract: raises")):
        mine = {what: one for (of, what), one in found.items() if of == defense}
        assert set(mine) == {"utility", "linkage", *ATTACKS}
        assert {status for status, _ in mine.values()} == {"failed"} and len({why for _, why in mine.values()}) == 1
        assert words in mine["utility"][1]
    assert outcome.counts == {"ok": 1 + 4 + 3 + 4, "skipped": 3, "failed": len(plan.cells) - 15}
    assert found["no_defense", "canary"] == ("ok", "")


def test_numbers_of_a_real_run_are_recorded_with_what_they_cost(tmp_path: Path, store: ResultStore) -> None:
    plan = real_plan(tmp_path, ("no_defense", "blackout"), ("linkage",))
    assert inline(plan, store).counts == {"ok": 5}
    by_cell = {(one.defense.label, one.slot[1] or one.cell): one for one in store.records()}
    linked, blind = (by_cell[defense, "linkage"].metrics["rank_1"] for defense in ("no_defense", "blackout"))
    assert linked.value == linked.ceiling and linked.leakage is not None and linked.leakage.value == 1
    assert blind.value.value == 0.25 and blind.leakage is not None and blind.leakage.value == 0
    assert len(linked.leakage.draws) == 50 and linked.value.n == 12
    utility = by_cell["no_defense", "utility"]
    assert utility.metrics["retention"].value.value == 1 and utility.cost.peak_memory_mib is not None
    assert utility.environment.threads == 2 and utility.dataset_revision == "examples-1"
    again = ResultStore(tmp_path / "again")
    inline(plan, again)
    assert {one.key: one.metrics for one in again.records()} == {one.key: one.metrics for one in store.records()}
    assert len(Times()._read()) > 3


def test_a_skipped_cell_is_measured_once_it_can_be(
    tmp_path: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = real_plan(tmp_path, ("no_defense", "blackout"), ("absent",))
    assert inline(plan, store).counts == {"ok": 3, "skipped": 2}
    monkeypatch.setattr(Absent, "run", LINKAGE.run)
    assert inline(plan, store).counts == {"ok": 2}
    assert {status for status, _ in outcomes(store).values()} == {"ok"}
