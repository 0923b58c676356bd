"""A record that another takes the place of is set aside, told of, and found again; nothing is ever deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records as made
import pytest

from ppfr_bench.leaderboard.table import build
from ppfr_bench.nightly import _superseded
from ppfr_bench.results import Record, ResultStore
from ppfr_bench.runner import execute as running
from ppfr_bench.runner.execute import execute, missing
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.runner.supersede import Moves, settle, supersede
from ppfr_bench.suites import load_suite


def plan_of(*overrides: str, revision: str = "r") -> Plan:
    """The smoke suite against one attack that others start from and one that none does."""
    suite = load_suite("smoke", overrides)
    attacks = tuple(one for one in suite.attack if one.name in ("unet", "ridge"))
    data: Any = SimpleNamespace(version=1, revision=revision, card=SimpleNamespace(real_people=False))
    return make_plan(suite.model_copy(update={"attack": attacks}), data)


def record_of(plan: Plan, cell: Cell, **changes: Any) -> Record:
    """A good record of a cell, such as its measurement would be."""
    measures = "appearance" if cell.attack else None
    shape = made.record(cell.defense.label, cell.kind, measures=measures, attack="unet" if cell.attack else None)
    return shape.model_copy(
        update={
            "key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "dataset_revision": plan.dataset_revision,
            "defense": cell.defense, "attack": cell.attack, "recognizer": cell.recognizer, "seed": plan.seed,
        }
        | changes
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is measured, here and at once; what is tested is what happens to the records."""

    class Pool:
        def __init__(self, initargs: tuple[Plan], **_: Any) -> None:
            (self.plan,) = initargs

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def stop(self) -> None:
            pass

        def schedule(self, _: Any, args: tuple[Cell], timeout: float) -> Any:
            (cell,) = args
            picture = b"a picture" if cell.attack else None
            named = {"samples": f"{cell.key}.jpg", "samples_sha256": "0" * 64} if picture else {}
            return SimpleNamespace(result=lambda: (record_of(self.plan, cell, **named), picture))

    monkeypatch.setattr(running, "ProcessPool", Pool)


def run(plan: Plan, store: ResultStore) -> list[str]:
    """What a run tells."""
    told: list[str] = []
    execute(plan, store, tell=told.append)
    return told


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def keys(store: ResultStore) -> set[str]:
    return {record.key for record in store.records()}


def test_only_the_same_cell_of_the_same_seed_is_set_aside_and_nothing_is_lost(tmp_path: Path) -> None:
    plan = plan_of("protocol.replicates=60")
    cell = next(cell for cell in plan.cells if cell.attack and cell.attack.label == "unet")
    assert cell.attack is not None
    store = ResultStore(tmp_path)
    older = cell.attack.model_copy(update={"config": cell.attack.config | {"steps": 1}})
    old = record_of(plan, cell, key="1" * 64, attack=older)
    elsewhere = plan.defenses[2]
    others = [
        record_of(plan, cell, key="2" * 64, seed=1),
        record_of(plan, cell, key="3" * 64, defense=elsewhere),
        record_of(plan, cell, key="4" * 64, recognizer=made.identity("a", "linkage", "one", 0.2).recognizer),
    ]
    for record in (old, *others):
        store.write(record)
    store.write(record_of(plan, cell))
    moves = Moves()
    supersede(plan, store, cell, moves)
    assert keys(store) == {record.key for record in others} | {cell.key}
    assert store.find(old.folder, old.key) == old
    assert moves.aside == {"unet: steps 1, now 4": 1}


def test_going_back_to_an_earlier_setting_costs_nothing(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    assert run(first, store) == []
    before = files(tmp_path)
    (told,) = run(second, store)
    unets = [cell for cell in first.cells if cell.attack and cell.attack.label == "unet"]
    assert f"{len(unets)} earlier records were set aside in {tmp_path}/smoke/set-aside, none deleted" in told
    assert f"{len(unets)}: unet: steps 4, now 3" in told and "measures nothing again" in told
    assert keys(store) == {cell.key for cell in second.cells}
    for cell in (*first.cells, *second.cells):
        assert store.find(first.folder(cell), cell.key) is not None
    everything = files(tmp_path)
    assert sorted(before.values()) == sorted(x for path, x in everything.items() if Path(path).stem in
                                             {Path(one).stem for one in before})  # fmt: skip
    assert missing(first, store) == []
    (told,) = run(first, store)
    assert f"{len(unets)} earlier records were brought back from" in told
    assert keys(store) == {cell.key for cell in first.cells}
    assert {path: content for path, content in files(tmp_path).items() if "set-aside" not in path} == before
    assert run(first, store) == [], "nothing is left to move"
    assert len(files(tmp_path)) == len(everything)


def test_a_picture_goes_with_its_record(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    run(plan_of("attack.unet.steps=3"), store)
    for path in tmp_path.rglob("*.json"):
        record = store.read(path)
        assert record.samples is None or path.with_name(record.samples).read_bytes() == b"a picture"
    assert {path.stem for path in tmp_path.rglob("*.jpg")} <= {path.stem for path in tmp_path.rglob("*.json")}


def test_defenses_of_several_settings_stand_side_by_side(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for block in (14, 8, 4):
        assert run(plan_of(f"defense.pixelate.block={block}"), store) == []
    labels = {record.defense.label: record.defense.config for record in store.records()}
    mosaics = {label: config["block"] for label, config in labels.items() if label.startswith("pixelate")}
    assert mosaics == {"pixelate": 14, "pixelate_block_8": 8, "pixelate_block_4": 4}
    assert set(mosaics) <= {row.defense for row in build(store.records("smoke"))}
    assert store.paths_aside() == []


def test_a_table_holds_one_revision_of_the_data_and_the_other_is_kept(tmp_path: Path) -> None:
    """All of the other revision, whatever was run; what is run of it later brings back all there was."""
    store = ResultStore(tmp_path)
    ours, theirs = plan_of(revision="ours"), plan_of(revision="theirs")
    run(ours, store)
    run(plan_of("defense.pixelate.block=8", revision="ours"), store)
    before = files(tmp_path)
    (told,) = run(theirs, store)
    assert "data set synthetic of revision ours, now theirs" in told
    assert keys(store) == {cell.key for cell in theirs.cells}
    assert all(store.find(ours.folder(cell), cell.key) is not None for cell in ours.cells)
    few = replace(ours, cells=ours.cells[:3])
    (told,) = run(few, store)
    assert "set aside" in told and "brought back" in told
    assert {path: content for path, content in files(tmp_path).items() if "set-aside" not in path} == before
    assert any(record.defense.label == "pixelate_block_8" for record in store.records())
    assert len(store.paths_aside("smoke")) == len(theirs.cells)


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
        (("protocol.shots=4",), "another surrogate, protocol.shots or list of metrics"),
        (("surrogate=dlib_resnet",), "another surrogate, protocol.shots or list of metrics"),
    ],
)
def test_why_is_told(overrides: tuple[str, ...], says: str, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    (told,) = run(plan_of(*overrides), store)
    assert says in told


def test_a_kill_between_a_record_and_the_move_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    run(first, store)
    for cell in second.cells:
        store.write(record_of(second, cell))
    assert keys(store) > {cell.key for cell in second.cells}
    assert any(row.gaps for row in build(store.records("smoke")))
    run(second, store)
    assert keys(store) == {cell.key for cell in second.cells}


def test_a_file_that_is_no_record_stops_no_run_and_stays(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first = plan_of()
    run(first, store)
    unet = next(cell for cell in first.cells if cell.attack and cell.attack.label == "unet")
    broken = [tmp_path / first.folder(unet) / f"{digit * 64}.json" for digit in "01"]
    for path, content in zip(broken, (b"\xff", b"{}"), strict=True):
        path.write_bytes(content)
    (told,) = run(plan_of("attack.unet.steps=3"), store)
    assert "set aside" in told and all(path.is_file() for path in broken)


def test_settling_twice_is_settling_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    run(plan_of(), store)
    run(plan_of("attack.unet.steps=3"), store)
    before, moves = files(tmp_path), Moves()
    settle(plan_of("attack.unet.steps=3"), store, moves)
    assert not moves and files(tmp_path) == before


def test_a_night_compares_with_the_record_that_is_about_to_be_set_aside(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    first, second = plan_of(), plan_of("attack.unet.steps=3")
    run(first, store)
    (cell, *_) = missing(second, store)
    then = _superseded(second, store, cell)
    assert then is not None and then.key in {one.key for one in first.cells}


def test_a_row_of_two_settings_of_a_defense_is_no_row(tmp_path: Path) -> None:
    """A suite file was edited, and only one attack run again: the numbers are not of one defense."""
    records = [*made.simple("a", 0.5, 0.5), made.appearance("a", "ridge", {"lpips": 0.4})]
    (row,) = build(records)
    assert row.complete
    other = records[0].defense.model_copy(update={"config": {"block": 8}})
    mixed = [*records[:2], records[2].model_copy(update={"defense": other})]
    (row,) = build(mixed)
    assert [(gap.title, gap.state) for gap in row.gaps] == [("ridge", "incomparable")]
    assert "defense a was run with other settings than in the rest of its row" in row.gaps[0].reason
