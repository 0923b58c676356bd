"""Records of version 0.1 join those of today under today's keys, and nothing is measured again."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from made_kills import by_key, contents, kills
from records_v1 import RECORDS, content, data_of, only, unpack

from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import migration
from ppfr_bench.maintenance.migration import adopt, former_key
from ppfr_bench.records import legacy, samples
from ppfr_bench.records.record import Component
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.suites import Protocol, load_suite

UNET = {"batch": 16, "learning_rate": 0.002, "size": 64, "steps": 300, "width": 16}
DATA: Any = SimpleNamespace(version=1, revision="r", card=SimpleNamespace(real_people=False))


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The smoke suite against two attacks."""
    suite = load_suite("smoke")
    return make_plan(
        suite.model_copy(update={"attack": tuple(a for a in suite.attack if a.name in ("unet", "ridge"))}), DATA
    )


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_keys_of_version_0_1_are_told_again(path: PurePosixPath) -> None:
    """Of real records: their keys are those that version 0.1 has given them."""
    record = legacy.upgrade(data_of(path))
    setting = SimpleNamespace(
        seed=record.seed, dataset_revision=record.dataset_revision, surrogate="faceplugin", protocol=Protocol()
    )
    plan: Any = SimpleNamespace(
        setting=setting, attacks={"unet": Component(label="unet", name="unet", version=3, config=UNET)}
    )
    cell: Any = SimpleNamespace(
        kind=record.cell, defense=record.defense, attack=record.attack, recognizer=record.recognizer
    )
    assert former_key(plan, cell) == path.stem == record.key


def old_record(plan: Plan, cell: Cell, **changes: Any) -> dict[str, Any]:
    """What version 0.1 would have kept of a cell: the numbers of one of its records."""
    pattern = {"canary": "identity/canary", "utility": "blackout/utility", "attack": "pixelate/unet"}[cell.kind]
    found = data_of(only(f"standard/*/{pattern}/*.json"))
    key = former_key(plan, cell)
    parts = {
        name: part.model_dump() if (part := getattr(cell, name)) else None
        for name in ("defense", "attack", "recognizer")
    }
    faces = {"samples": f"{key}.jpg"} if found["samples"] else {}
    same = {"suite": plan.suite, "seed": plan.seed, "dataset": plan.dataset.model_dump(), "dataset_revision": "r"}
    return found | parts | faces | same | {"key": key} | changes


def begun(plan: Plan, root: str) -> list[Path]:
    """A folder as version 0.1 has left it, with one record that is of no cell; all files of records in it."""
    faces = content(only("standard/*/pixelate/unet/*.jpg"))
    made = [old_record(plan, cell) for cell in plan.cells]
    made.append(old_record(plan, plan.cells[-1], key="f" * 64, samples=f"{'f' * 64}.jpg", seed=7))
    paths = []
    for one in made:
        what = one["attack"]["label"] if one["attack"] else one["cell"]
        path = Path(root, one["suite"], one["dataset"]["label"], one["defense"]["label"], what, f"{one['key']}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one), encoding="utf-8")
        if one["samples"]:
            path.with_suffix(".jpg").write_bytes(faces)
        paths.append(path)
    return paths


def test_records_are_taken_over_and_what_is_left_is_told(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = begun(plan, str(tmp_path))
    store = ResultStore(tmp_path)
    before = by_key(store.records("smoke"))
    assert adopt(plan, store) == len(plan.cells) == len(paths) - 1
    told = capsys.readouterr().err
    assert f"{len(plan.cells)} records of version 0.1" in told and "none measured again" in told
    assert "1 records of version 0.1" in told and "of no cell of this plan" in told
    assert [path for path in paths if path.is_file()] == paths[-1:]
    assert {path.name for path in (tmp_path / "smoke").rglob("*.jpg")} >= {paths[-1].with_suffix(".jpg").name}
    after = by_key(store.records("smoke"))
    assert after.keys() == {cell.key for cell in plan.cells} | {"f" * 64}
    for cell in plan.cells:
        record, then = after[cell.key], before[former_key(plan, cell)]
        assert (record.metrics, record.log, record.training, record.flags, record.cost, record.environment) == (
            then.metrics, then.log, then.training, then.flags, then.cost, then.environment
        )  # fmt: skip
        assert record.former_key == then.key and record.defense == cell.defense and record.track == cell.track
        strip = store.strip(record)
        assert (strip is not None) == (cell.attack is not None) and (
            not strip or samples.is_strip(strip, record.samples)
        )
    assert store.plan("smoke") == plan.published()
    assert store.statuses("smoke").keys() >= {cell.key for cell in plan.cells}, "so that a run finds nothing to do"
    assert not any(path.is_dir() and not any(path.iterdir()) for path in (tmp_path / "smoke/synthetic").rglob("*"))
    everything = contents(store.files, "smoke")
    assert adopt(plan, store) == 0 and contents(store.files, "smoke") == everything


@pytest.mark.parametrize("suite", ["standard", "lfw_quick"])
def test_real_records_are_taken_over_by_the_suites_of_today_with_every_number(suite: str, tmp_path: Path) -> None:
    """All that are of the suite's seed; their draws, their flags and what they cost are among what is the same."""
    unpack(tmp_path / suite, suite)
    store = ResultStore(tmp_path)
    before = by_key(store.records(suite))
    any_record = next(iter(before.values()))
    data: Any = SimpleNamespace(
        version=any_record.dataset.version, revision=any_record.dataset_revision,
        card=SimpleNamespace(real_people=any_record.real_people),
    )  # fmt: skip
    plan = make_plan(load_suite(suite), data)
    now = {former_key(plan, cell): cell for cell in plan.cells}
    mine = {key for key, record in before.items() if record.seed == plan.seed}
    assert mine and mine <= now.keys()
    assert adopt(plan, store) == len(mine)
    after = by_key(ResultStore(tmp_path).records(suite))
    assert after.keys() == {now[key].key for key in mine} | (before.keys() - mine)
    parts = ("metrics", "log", "training", "flags", "cost", "environment", "guarantee", "status", "seed", "suite",
             "real_people", "dataset", "dataset_revision", "defense", "attack", "recognizer", "knowledge", "cell",
             "track", "scorer", "sets", "surrogate", "adapted")  # fmt: skip
    for key in mine:
        record = after[now[key].key]
        assert {part: getattr(record, part) for part in parts} == {part: getattr(before[key], part) for part in parts}
        assert record.former_key == key and bool(record.samples) == bool(before[key].samples)
    published = store.plan(suite)
    assert published is not None and published.tables[any_record.dataset.label].revision == any_record.dataset_revision


def test_a_kill_while_records_are_taken_over(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = SimpleNamespace(**{name: getattr(plan, name) for name in ("suite", "setting", "attacks", "dataset", "seed",
                                                                    "real_people", "published")},
                          cells=(plan.cells[0], plan.cells[-1]))  # fmt: skip
    small: Any = few
    whole = ResultStore(tmp_path / "whole")
    begun(small, str(whole.root))
    adopt(small, whole)
    expected = contents(whole.files, "smoke")
    for killed in kills(str(tmp_path / "killed"), monkeypatch, lambda root: begun(small, root),
                        lambda store: adopt(small, store)):  # fmt: skip
        store = ResultStore(killed)
        found = {record.former_key or record.key for record in store.records("smoke")}
        assert found == {former_key(small, cell) for cell in small.cells} | {"f" * 64}, killed
        adopt(small, store)
        assert contents(store.files, "smoke") == expected, killed


def test_what_another_version_has_measured_stays(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers would be published as those of today's."""
    paths = begun(plan, str(tmp_path))
    moved = json.loads(paths[0].read_text(encoding="utf-8"))
    moved["metrics"]["accuracy"]["version"] = 7
    paths[0].write_text(json.dumps(moved), encoding="utf-8")
    store = ResultStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(migration, "_SCORERS", 0)
        assert adopt(plan, store) == 0 and all(path.is_file() for path in paths)
    assert adopt(plan, store) == len(plan.cells) - 1 and paths[0].is_file()


def test_a_record_that_was_measured_anew_is_not_written_over(plan: Plan, tmp_path: Path) -> None:
    begun(plan, str(tmp_path / "results"))
    store, twin = ResultStore(tmp_path / "results"), ResultStore(tmp_path / "twin")
    begun(plan, str(twin.root))
    adopt(plan, twin)
    anew = next(iter(twin.records("smoke"))).model_copy(update={"flags": ("measured_anew",), "samples": ""})
    store.write(anew)
    assert adopt(plan, store) == len(plan.cells)
    assert store.find("smoke", anew.key) == anew


def test_a_file_that_is_no_record_is_named_and_nothing_is_taken(plan: Plan, tmp_path: Path) -> None:
    paths = begun(plan, str(tmp_path))
    paths[2].write_bytes(b"{")
    with pytest.raises(UserError, match="is not a record"):
        adopt(plan, ResultStore(tmp_path))
    assert all(path.is_file() for path in paths)
