"""What a run does with a plan: each stage once, each cell its record, and a failure that stays where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import made_records as made
import numpy as np
import pytest

from ppfr_bench import registry
from ppfr_bench.engines.base import Engine, Failure, Limits, Resources, Result, Task, passed_on
from ppfr_bench.errors import UserError
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.estimates import Times, group_of
from ppfr_bench.runner.execution import Outcome, Where, describe, estimated, execute, missing
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.runner.scoring import CellJob
from ppfr_bench.runner.worker import stage_store
from ppfr_bench.stages.spec import Stage
from ppfr_bench.suites import Entry, Suite, load_suite

SECONDS = 2.0  # that a stage takes


class Made(Engine):
    """Computes nothing: what comes of a task is what a test says."""

    version = 1
    title = "made"
    failures: ClassVar[dict[str, Failure]]
    tasks: ClassVar[list[Task]]
    after: ClassVar[int]  # cells that are scored before somebody ends the run
    given: ClassVar[tuple[Resources, Limits]]

    def run(
        self, packed: bytes, tasks: Sequence[Task], resources: Resources, limits: Limits,
        done: Callable[[Task, Result], None],
    ) -> None:  # fmt: skip
        made = type(self)
        made.tasks, made.given = list(tasks), (resources, limits)
        results: dict[str, Result] = {}
        for task in tasks:
            assert task.key not in results, "each task is there once"
            earlier = [results[key] for key in task.needs]  # A task that comes too early has no result here.
            if isinstance(task.job, CellJob):
                if made.after == 0:
                    raise KeyboardInterrupt
                made.after -= 1
            results[task.key] = passed_on(task, earlier) or self._result(task)
            done(task, results[task.key])

    def _result(self, task: Task) -> Result:
        if failure := self.failures.get(task.key):
            return Result(task.key, failure)
        if not isinstance(task.job, CellJob):
            return Result(task.key, seconds=SECONDS)
        record = Record(**task.job.header, environment=made.ENVIRONMENT, status="ok")
        return Result(task.key, record=record.model_dump_json())


@pytest.fixture
def engine() -> type[Made]:
    """A fresh one, by the name ``made``."""
    fresh = type("Fresh", (Made,), {"failures": {}, "tasks": [], "after": 1_000_000})
    registry.add_class("engine", "made", fresh)
    found: type[Made] = fresh
    return found


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    yield
    registry._added.clear()


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def plan_of(suite: str | Suite = "smoke", *overrides: str, **options: Any) -> Plan:
    loaded = load_suite(suite, overrides) if isinstance(suite, str) else suite
    data: Any = SimpleNamespace(version=1, revision="r", card=SimpleNamespace(real_people=False))
    return make_plan(loaded, data, **options)


def run(plan: Plan, store: ResultStore, **options: Any) -> Outcome:
    return execute(plan, store, where=Where(engine="made"), tell=lambda text: None, **options)


def needing(plan: Plan, stage: Stage) -> set[str]:
    """Keys of the cells that cannot be scored without a stage."""
    return {cell.key for cell in plan.cells
            if any(stage.key == one.key for found in cell.inputs.values() for one in found.before())}  # fmt: skip


def stage_of(plan: Plan, kind: str, defense: str, **spec: Any) -> Stage:
    """The only such stage of a defense."""
    (found,) = [
        stage for stage in plan.stages if stage.kind == kind and stage.spec["defense"]["name"] == defense
        and all(stage.spec.get(name) == value for name, value in spec.items())
    ]  # fmt: skip
    return found


def scored(engine: type[Made]) -> list[str]:
    """Keys of the cells that the last run was to score, in order."""
    return [task.key for task in engine.tasks if isinstance(task.job, CellJob)]


# What is run ---------------------------------------------------------------------------------------------------------


def test_every_stage_and_cell_is_run_once_and_a_second_run_has_nothing_to_do(
    engine: type[Made], store: ResultStore
) -> None:
    plan = plan_of()
    told: list[tuple[str, str]] = []
    outcome = run(plan, store, report=lambda cell, record: told.append((cell.title, record.status)))
    assert (outcome.cached, outcome.counts, outcome.failed) == (0, {"ok": 58}, 0)
    assert {task.key for task in engine.tasks} == {one.key for one in (*plan.stages, *plan.cells)}
    assert scored(engine) == [cell.key for cell in plan.cells]
    assert told == [(cell.title, "ok") for cell in plan.cells]
    assert {record.key for record in store.records()} == {cell.key for cell in plan.cells}
    assert store.plan("smoke") == plan.published()
    assert not list(Path(str(store.root)).rglob(".cells/*.j*")), "what was recorded is folded"
    engine.tasks = []
    again = run(plan, store)
    assert (again.cached, again.counts, engine.tasks) == (58, {}, [])


def test_a_cell_is_scored_as_soon_as_its_stages_are_there(engine: type[Made], store: ResultStore) -> None:
    """Records come one after the other, and not all of them at the end."""
    plan = plan_of()
    run(plan, store)
    places = {task.key: at for at, task in enumerate(engine.tasks)}
    new = 0
    for cell in plan.cells:
        last = max(places[stage.key] for one in cell.inputs.values() for stage in one.before())
        assert last < places[cell.key]
        new += places[cell.key] == last + 1
    assert new > len(plan.cells) // 2


def test_where_it_runs_reaches_the_engine(engine: type[Made], store: ResultStore) -> None:
    resources = Resources(workers=3, threads=2, device="cpu")
    execute(plan_of("smoke", "protocol.timeout=7"), store, where=Where("made", resources))
    assert engine.given == (resources, Limits(7.0))


def test_an_engine_that_is_not_there_is_named_before_anything_is_written(store: ResultStore) -> None:
    with pytest.raises(UserError, match=r"unknown engine 'inlin'\nDid you mean 'inline'"):
        execute(plan_of(), store, where=Where("inlin"))
    assert not Path(str(store.root)).exists()


def test_a_run_that_is_ended_keeps_what_it_has_recorded_and_the_next_does_the_rest(
    engine: type[Made], store: ResultStore
) -> None:
    plan = plan_of()
    engine.after = 20
    with pytest.raises(KeyboardInterrupt):
        run(plan, store)
    first = [cell.key for cell in plan.cells[:20]]
    assert {record.key for record in store.records()} == set(first) and store.plan("smoke") == plan.published()
    assert not list(Path(str(store.root)).rglob(".cells/*.j*"))
    assert Times().estimate(plan.stages).unknown < len(plan.stages), "the times it took are kept too"
    engine.after = 1_000
    outcome = run(plan, store)
    assert (outcome.cached, outcome.counts["ok"]) == (20, 38)
    assert scored(engine) == [cell.key for cell in plan.cells[20:]]


def test_a_run_that_is_ended_before_its_first_record_changes_nothing(engine: type[Made], store: ResultStore) -> None:
    run(plan_of(), store)
    root = Path(str(store.root))
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    engine.after = 0
    with pytest.raises(KeyboardInterrupt):
        run(plan_of("smoke", "protocol.replicates=60"), store)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_what_is_listed_under_two_labels_is_measured_once(engine: type[Made], store: ResultStore) -> None:
    """Their keys are the same, as no label is part of a key: two tasks of one key would be a fault of the run."""
    suite = load_suite("smoke")
    twin = Entry(name="block_permutation", label="shuffled")
    plan = plan_of(suite.model_copy(update={"defense": (*suite.defense, twin)}))
    told: list[str] = []
    outcome = run(plan, store, report=lambda cell, record: told.append(cell.title))
    assert len(plan.cells) == 72 and len(scored(engine)) == 58
    assert outcome.counts == {"ok": 72} and sorted(told) == sorted(cell.title for cell in plan.cells)
    assert {record.defense.label for record in store.records()} == {one.label for one in suite.defense}
    again = run(plan, store)
    assert (again.cached, again.counts) == (72, {})


# What is missing -----------------------------------------------------------------------------------------------------


def test_what_is_missing_is_what_has_no_record_or_was_skipped_and_more_on_request(store: ResultStore) -> None:
    plan = plan_of()
    good, aside, bad, skipped, *rest = plan.cells

    def keep(cell: Cell, status: str) -> None:
        shape = made.record(
            cell.defense.label, "utility", recognizer="x", status=status, reason="told" * (status != "ok")
        )
        store.write(shape.model_copy(update={"key": cell.key, "suite": "smoke"}))

    for cell, status in ((good, "ok"), (aside, "ok"), (bad, "failed"), (skipped, "skipped")):
        keep(cell, status)
    store.set_aside("smoke", [aside.key], "superseded")
    assert missing(plan, store) == [skipped, *rest]
    assert missing(plan, store, "failed") == [bad, skipped, *rest]
    assert missing(plan, store, "all") == list(plan.cells)
    assert [status for _, status in describe(plan, store)] == ["ok", "ok", "failed", "skipped"] + ["to run"] * len(rest)


# What fails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("check", {}), ("protected", {"split": "evaluation"}), ("protected", {"split": "attacker"})],
    ids=["the check of a defense", "what is measured", "the attacker's images"],
)
def test_a_stage_that_fails_fails_its_own_cells_with_its_reason(
    kind: str, spec: dict[str, str], engine: type[Made], store: ResultStore
) -> None:
    plan = plan_of()
    stage = stage_of(plan, kind, "block_permutation", **spec)
    engine.failures[stage.key] = Failure("failed", "RuntimeError: no face")
    outcome = run(plan, store)
    lost = needing(plan, stage)
    assert 0 < len(lost) < 15 and outcome.counts == {"failed": len(lost), "ok": 58 - len(lost)}
    assert outcome.failed == len(lost)
    for record in store.records():
        expected = ("failed", "RuntimeError: no face") if record.key in lost else ("ok", "")
        assert (record.status, record.reason) == expected
        if record.key in lost:
            assert record.defense.label == "block_permutation" and not record.metrics and record.defense_card


def test_a_failing_ceiling_fails_all_that_is_measured_between_it_and_the_floor(
    engine: type[Made], store: ResultStore
) -> None:
    """What an attack does without a defense is the end of the scale of all its numbers."""
    plan = plan_of()
    ceiling = next(cell for cell in plan.cells if cell.attack and cell.attack.label == "unet").inputs["attack"]
    engine.failures[ceiling.key] = Failure("failed", "timeout: more than 1800 s")
    run(plan, store)
    lost = {record.slot[1] for record in store.records() if record.status == "failed"}
    assert lost == {"unet", "linkage_unet"}
    assert {record.defense.label for record in store.records() if record.status == "failed"} == {
        one.label for one in plan.defenses
    }


def test_what_cannot_be_had_is_skipped_and_tried_again_by_every_run(engine: type[Made], store: ResultStore) -> None:
    plan = plan_of()
    stage = next(
        stage for stage in plan.stages if stage.kind == "embed"
        and (stage.spec["recognizer"]["name"], stage.spec.get("of")) == ("dlib_resnet", "calibration")
    )  # fmt: skip
    engine.failures[stage.key] = Failure("skipped", "dlib is missing")
    outcome = run(plan, store)
    assert outcome.counts == {"skipped": 4, "ok": 54} and outcome.failed == 0
    assert {record.slot for record in store.records() if record.status == "skipped"} == {("utility", "", "dlib_resnet")}
    outcome = run(plan, store)
    assert (outcome.cached, outcome.counts) == (54, {"skipped": 4})
    engine.failures.clear()
    assert run(plan, store).counts == {"ok": 4}
    assert {record.status for record in store.records()} == {"ok"}


def test_what_failed_is_run_again_on_request_alone(engine: type[Made], store: ResultStore) -> None:
    plan = plan_of()
    engine.failures[plan.cells[5].key] = Failure("failed", "x" * 3000)
    assert run(plan, store).counts == {"failed": 1, "ok": 57}
    found = store.find("smoke", plan.cells[5].key)
    assert found is not None and found.reason == "x" * 2000
    engine.failures.clear()
    assert run(plan, store).counts == {} and run(plan, store, rerun="failed").counts == {"ok": 1}
    assert scored(engine) == [plan.cells[5].key]
    assert run(plan, store, rerun="all").counts == {"ok": 58} and len(list(store.records())) == 58


# How long it takes ---------------------------------------------------------------------------------------------------


def test_an_estimate_says_what_it_knows_and_what_it_does_not(engine: type[Made], store: ResultStore) -> None:
    plan, two = plan_of(), Where("made", Resources(workers=2))
    count = len(plan.stages)
    found = estimated(plan, missing(plan, store), two)
    assert (found["stages"], found["to_compute"], found["unknown"]) == (count, count, count)
    assert found["seconds"] is None
    assert found["words"] == "no estimate: nothing like it was computed on this machine yet"
    run(plan, store)
    found = estimated(plan, list(plan.cells), two)
    assert (found["to_compute"], found["unknown"], found["workers"]) == (count, 0, 2)
    assert found["seconds"] == count * SECONDS / 2 == pytest.approx(float(str(found["words"]).split()[1]) * 60, rel=0.3)
    assert str(found["words"]).startswith("about ") and str(found["words"]).endswith(" min on 2 workers")
    one = estimated(plan, list(plan.cells[:2]), Where("made", Resources(workers=1)))
    assert one["words"] == f"about {one['to_compute'] * SECONDS:.0f} s on 1 worker"
    found = estimated(plan, missing(plan, store), two)
    assert (found["to_compute"], found["seconds"], found["words"]) == (0, 0.0, "nothing to compute")


def test_an_estimate_of_what_is_partly_new_is_a_lower_bound(engine: type[Made], store: ResultStore) -> None:
    run(plan_of(), store)
    more = plan_of("smoke", "defense.pixelate.block=8")
    pending = missing(more, store)
    assert {cell.defense.label for cell in pending} == {"pixelate_block_8"}
    found = estimated(more, pending, Where("made", Resources(workers=1)))
    assert 0 < int(str(found["unknown"])) < int(str(found["to_compute"])), "its release was never made on this machine"
    assert str(found["words"]).startswith("more than ")
    assert f"the like of {found['unknown']} stages was not computed on this machine yet" in str(found["words"])


def test_times_of_one_class_of_devices_say_nothing_of_another(engine: type[Made], store: ResultStore) -> None:
    run(plan_of(), store)
    elsewhere = plan_of(device="cuda")
    found = estimated(elsewhere, list(elsewhere.cells), Where("made"))
    assert found["seconds"] is None and str(found["words"]).startswith("no estimate")


def test_what_lies_in_the_store_is_not_computed_nor_what_it_alone_needs(engine: type[Made], store: ResultStore) -> None:
    plan = plan_of()
    (cell, *_) = [cell for cell in plan.cells if cell.kind == "utility" and cell.defense.name == "stochastic_local"]
    protected = cell.inputs["protected"]
    whole = {stage.key for one in cell.inputs.values() for stage in one.before()}
    assert estimated(plan, [cell], Where("made"))["to_compute"] == len(whole) == 5
    stages = stage_store("")
    stages.compute(protected.kind, protected.key, {}, lambda writer: writer.save("embeddings", np.zeros(1)))
    assert estimated(plan, [cell], Where("made"))["to_compute"] == 2, "neither a check nor a release"
    for stage in cell.inputs.values():
        if stage is not protected:
            stages.compute(stage.kind, stage.key, {}, lambda writer: writer.save("embeddings", np.zeros(1)))
    assert estimated(plan, [cell], Where("made"))["words"] == "nothing to compute"


def test_the_latest_times_count_and_a_damaged_file_of_them_is_no_harm(tmp_path: Path) -> None:
    stage, times = plan_of().stages[0], Times()
    for seconds in (100.0, *[1.0] * 10, *[3.0] * 10):
        times.note(stage, seconds)
    assert Times().estimate([stage]).unknown == 1, "nothing is known before it is kept"
    times.save()
    assert Times().estimate([stage, stage]).seconds == 4.0
    (path,) = (tmp_path / "cache").glob("*.json")
    for content in (b"", b"[1]", b"\xff", b'{"a": 1}', b'{"a": ["long"]}'):
        path.write_bytes(content)
        assert Times().estimate([stage]).unknown == 1
    times.note(stage, 5.0)
    times.save()
    assert Times().estimate([stage]).seconds == 5.0
    assert group_of(stage) == group_of(plan_of("smoke", "seed=1").stages[0]), "of one kind, plug-in and data set"
