"""A record that another takes the place of is set aside, told of, and found again; nothing is ever deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import made_records as made
import pytest
from made_kills import by_key, contents, kills

from ppfr_bench import registry
from ppfr_bench.engines.base import Engine, Limits, Resources, Result, Task
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard.comparable import foreign_records
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.nightly import _superseded
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute, missing
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.runner.scoring import CellJob, job_of
from ppfr_bench.runner.supersede import Moves, make_room
from ppfr_bench.runner.worker import Work
from ppfr_bench.suites import Entry, load_suite

PICTURE = made.strip(1, "clear")


def plan_of(*overrides: str, revision: str = "r", more: Sequence[Entry] = ()) -> Plan:
    """The smoke suite against one attack that others start from and one that none does, and more entries of attacks."""
    suite = load_suite("smoke", overrides)
    attacks = tuple(one for one in suite.attack if one.name in ("unet", "ridge"))
    data: Any = SimpleNamespace(version=1, revision=revision, card=SimpleNamespace(real_people=False))
    return make_plan(suite.model_copy(update={"attack": (*attacks, *more)}), data)


def measured(job: CellJob, draws: int) -> Result:
    """A good record of a cell, such as its measurement would be."""
    picture = PICTURE if job.cell.attack else None
    name = "psnr" if job.cell.attack else "accuracy"
    shape = made.record("x", "utility", samples=picture)
    record = Record(
        **job.header, environment=made.ENVIRONMENT, status="ok", samples=shape.samples,
        metrics={name: made.value(0.5, [(0.4, 0.6)[i % 2] for i in range(draws)], metric=name)},
    )  # fmt: skip
    return Result(job.cell.key, record=record.model_dump_json(), strip=picture)


def record_of(plan: Plan, cell: Cell) -> Record:
    return Record.model_validate_json(measured(job_of(plan, cell), plan.setting.protocol.replicates).record)


class Made(Engine):
    """Measures every cell, here and at once; what is tested is what happens to the records."""

    version = 1
    title = "made"

    def run(
        self, packed: bytes, tasks: Sequence[Task], resources: Resources, limits: Limits,
        done: Callable[[Task, Result], None],
    ) -> None:  # fmt: skip
        work: Work = cloudpickle.loads(packed)
        for task in tasks:
            cell = isinstance(task.job, CellJob)
            done(task, measured(task.job, work.setting.protocol.replicates) if cell else Result(task.key))


@pytest.fixture(autouse=True)
def _measured_at_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    registry.add_class("engine", "made", Made)
    yield
    registry._added.clear()


def run(plan: Plan, store: ResultStore) -> list[str]:
    """What a run tells."""
    told: list[str] = []
    execute(plan, store, where=Where("made"), tell=told.append)
    return told


def files(root: Path) -> dict[str, bytes]:
    """All but what a run that goes on has left to fold: nothing."""
    assert not list(root.rglob(".cells/*.j*"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def of_board(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(root).items() if "set-aside" not in name}


def keys(store: ResultStore) -> set[str]:
    return {record.key for record in store.records()}


def test_only_the_same_cell_of_the_same_seed_is_set_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    store, plan = ResultStore(tmp_path), plan_of("protocol.replicates=60")
    older = plan_of("protocol.replicates=60", "attack.unet.steps=1", "defense.pixelate.block=8")
    other_seed = plan_of("protocol.replicates=60", "attack.unet.steps=1", "seed=1")
    for earlier in (older, other_seed):
        run(earlier, store)
    now = {cell.key for cell in plan.cells}
    unets = [cell for cell in older.cells if cell.attack and cell.attack.label == "unet"]
    replaced = [cell for cell in unets if cell.key not in now and cell.defense.label != "pixelate_block_8"]
    assert replaced
    (told,) = run(plan, store)
    assert f"{len(replaced)}: unet: steps 1, now 4" in told
    everything = {cell.key for one in (older, other_seed, plan) for cell in one.cells}
    assert keys(store) == everything - {cell.key for cell in replaced}
    assert all(store.find("smoke", key) is not None for key in everything)


def test_going_back_to_an_earlier_setting_costs_nothing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    assert run(first, store) == []
    before = files(tmp_path)
    (told,) = run(second, store)
    unets = [cell for cell in first.cells if cell.attack and cell.attack.label == "unet"]
    assert f"{len(unets)} earlier records were set aside in {tmp_path}/smoke/set-aside, none deleted" in told
    assert f"{len(unets)}: unet: steps 4, now 3" in told and "measures nothing again" in told
    assert keys(store) == {cell.key for cell in second.cells} and store.aside_count() == len(unets)
    for cell in (*first.cells, *second.cells):
        assert store.find("smoke", cell.key) is not None
    assert missing(first, store) == []
    (told,) = run(first, store)
    assert f"{len(unets)} earlier records were brought back from" in told
    assert keys(store) == {cell.key for cell in first.cells}
    assert of_board(tmp_path) == before, "to the last byte"
    everything = files(tmp_path)
    assert run(first, store) == [], "nothing is left to move"
    assert files(tmp_path) == everything


def test_sample_faces_go_with_their_record(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    run(first, store)
    run(second, store)
    for cell in (*first.cells, *second.cells):
        record = store.find("smoke", cell.key)
        assert record is not None and store.strip(record) == (PICTURE if cell.attack else None)
    sheets = {path.with_suffix("") for path in tmp_path.rglob("*.jpg")}
    assert sheets <= {path.with_suffix("") for path in tmp_path.rglob("*.jsonl")}


def test_defenses_of_several_settings_stand_side_by_side(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for block in (14, 8, 4):
        assert run(plan_of(f"defense.pixelate.block={block}"), store) == []
    labels = {record.defense.label: record.defense.config for record in store.records()}
    mosaics = {label: config["block"] for label, config in labels.items() if label.startswith("pixelate")}
    assert mosaics == {"pixelate": 14, "pixelate_block_8": 8, "pixelate_block_4": 4}
    published = store.plan("smoke")
    assert published is not None
    assert set(mosaics) <= {row.defense for row in build(list(store.records("smoke")), published)}
    assert store.aside_count() == 0


def test_a_table_holds_one_revision_of_the_data_and_the_other_is_kept(tmp_path: Path) -> None:
    """All of the other revision, whatever was run; what is run of it later brings back all there was."""
    store = ResultStore(tmp_path)
    ours, theirs = plan_of(revision="ours"), plan_of(revision="theirs")
    run(ours, store)
    run(plan_of("defense.pixelate.block=8", revision="ours"), store)
    before = keys(store)
    (told,) = run(theirs, store)
    assert "data set synthetic of revision ours, now theirs" in told
    assert keys(store) == {cell.key for cell in theirs.cells}
    assert all(store.find("smoke", key) is not None for key in before)
    (told,) = run(replace(ours, cells=ours.cells[:3]), store)
    assert "set aside" in told and "brought back" in told
    assert keys(store) == before
    assert any(record.defense.label == "pixelate_block_8" for record in store.records())
    assert store.aside_count() == len(theirs.cells)
    plan = store.plan("smoke")
    assert plan is not None and set(plan.aside["synthetic"]) == {"theirs"}
    assert not foreign_records(store.records(), plan), "the board knows them all again"


def test_a_run_that_measures_nothing_moves_nothing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    before = files(tmp_path)
    for other in (plan_of("attack.unet.steps=3"), plan_of(revision="theirs")):
        assert missing(other, store)
        assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("protocol.threads=1",), "protocol.threads 2, now 1"),
        (("protocol.replicates=60",), "protocol.replicates 50, now 60"),
        (("protocol.shots=4",), "another surrogate, protocol.shots or version of a scorer"),
        (("surrogate=dlib_resnet",), "4: another surrogate, protocol.shots or version of a scorer"),
        (("attack.unet.steps=3",), "4: linkage_unet: another unet, which it starts from"),
        (("attack.unet.steps=3", "attack.unet.width=8"), "4: unet: steps 4, now 3; unet: width 24, now 8"),
    ],
)
def test_why_is_told(overrides: tuple[str, ...], says: str, tmp_path: Path) -> None:
    learning = Entry(name="unet_perceptual", params={"steps": 4, "warm": 4})
    linking = Entry(name="linkage", label="linkage_unet", params={"probe": "unet"}, recognizers=("dlib_resnet",))
    more, store = (learning, linking), ResultStore(tmp_path)
    run(plan_of(more=more), store)
    (told,) = run(plan_of(*overrides, more=more), store)
    assert says in told


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [("attack", "ridge", r"4: ridge: version \d+, now 99"),
     ("defense", "stochastic_local", r"4: stochastic_local: version \d+, now 99"),
     ("scorer", "reconstruction", "8: another surrogate, protocol.shots or version of a scorer")],
)  # fmt: skip
def test_another_version_is_told(
    kind: registry.Kind, name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    monkeypatch.setattr(registry.load(kind, name), "version", 99)
    (told,) = run(plan_of(), store)
    assert re.search(says, told), told


def test_another_version_of_a_metric_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, metric = ResultStore(tmp_path), registry.load("metric", "psnr")
    run(plan_of(), store)
    monkeypatch.setattr(metric, "info", replace(metric.info, version=99))
    (told,) = run(plan_of(), store)
    assert "8: version of metric psnr 1, now 99" in told


def test_many_reasons_are_told_in_few_lines() -> None:
    moves = Moves()
    for i in range(12):
        moves.aside[f"reason {i}"] += 1 + (i == 11)
    lines = moves.message("there").splitlines()
    assert lines[0] == "13 earlier records were set aside in there, none deleted:" and lines[1] == "  2: reason 11"
    assert len(lines) == 11 and lines[9] == "  4: 4 other reasons"
    assert Moves(back=1).message("there") == "1 earlier record was brought back from there."


def test_a_kill_between_a_record_and_the_move_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    """Until then the board is the former one: a record that no plan has published is on none."""
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    run(first, store)
    published = store.plan("smoke")
    assert published is not None
    board = build(list(store.records("smoke")), published)
    for cell in second.cells:
        store.write(record_of(second, cell), PICTURE if cell.attack else None)
    assert keys(store) > {cell.key for cell in second.cells}
    assert store.plan("smoke") == published and build(list(store.records("smoke")), published) == board
    run(second, store)
    assert keys(store) == {cell.key for cell in second.cells}
    assert store.plan("smoke") == second.published()


def test_a_run_killed_at_any_moment_loses_nothing_and_the_next_ends_at_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before, within or after any change of a file: of cells, rows, draws, what is set aside, and the plan."""

    def few(plan: Plan) -> Plan:
        cells = [cell for cell in plan.cells if cell.defense.label == "blackout"]
        return replace(plan, cells=(cells[0], *(cell for cell in cells if cell.attack)))

    first, second = few(plan_of()), few(plan_of("attack.unet.steps=3"))
    whole = ResultStore(tmp_path / "whole")
    run(first, whole)
    run(second, whole)
    expected, everything = contents(whole.files, "smoke"), {cell.key for cell in (*first.cells, *second.cells)}
    assert set(whole.statuses("smoke")) == everything and whole.aside_count() == 1
    for killed in kills(str(tmp_path / "killed"), monkeypatch, lambda root: run(first, ResultStore(root)),
                        lambda store: run(second, store)):  # fmt: skip
        store = ResultStore(killed)
        assert {cell.key for cell in first.cells} <= set(store.statuses("smoke")) <= everything, killed
        by_key(store.records("smoke"))
        run(second, store)
        assert contents(store.files, "smoke") == expected, killed


def test_a_damaged_file_stops_a_run_before_anything_is_measured_or_moved(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    row = tmp_path / "smoke/synthetic/block_permutation.jsonl"
    row.write_bytes(row.read_bytes()[:-20])
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"block_permutation\.jsonl, line \d+ is not a record"):
        run(plan_of("attack.unet.steps=3"), ResultStore(tmp_path))
    assert files(tmp_path) == before


def test_a_record_that_another_row_needs_too_stays(tmp_path: Path) -> None:
    """Two labels of one setting have one record; one of them is given another setting, and runs alone."""
    store, suite = ResultStore(tmp_path), load_suite("smoke")
    data: Any = SimpleNamespace(version=1, revision="r", card=SimpleNamespace(real_people=False))
    attacks = tuple(one for one in suite.attack if one.name in ("unet", "ridge"))

    def with_twin(**params: int) -> Plan:
        twin = Entry(name="block_permutation", label="shuffled", params=params)
        return make_plan(suite.model_copy(update={"defense": (*suite.defense, twin), "attack": attacks}), data)

    first, second = with_twin(), with_twin(block=28)
    run(first, store)
    alone = replace(second, cells=tuple(cell for cell in second.cells if cell.defense.label == "shuffled"))
    assert run(alone, store) == []
    assert keys(store) == {cell.key for cell in (*first.cells, *second.cells)} and store.aside_count() == 0
    published = store.plan("smoke")
    assert published is not None and published.tables["synthetic"].cells == second.published().tables["synthetic"].cells
    rows = build(list(store.records("smoke")), published)
    assert {row.defense for row in rows} == {one.label for one in second.defenses}
    assert not [gap for row in rows for gap in row.gaps if gap.state in ("missing", "incomparable")]


def test_making_room_twice_is_making_it_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    run(plan_of("attack.unet.steps=3"), store)
    before, moves = files(tmp_path), Moves()
    make_room(plan_of("attack.unet.steps=3"), store, moves)
    assert not moves and files(tmp_path) == before


def test_a_night_compares_with_the_record_that_is_about_to_be_set_aside(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    run(first, store)
    (cell, *_) = missing(second, store)
    then = _superseded(second, store, cell)
    assert then in {one.key for one in first.cells}
