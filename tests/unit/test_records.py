"""The record and its store: whole files only, one place for each, nothing that is not a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ppfr_bench.errors import UserError
from ppfr_bench.records import draws, samples
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.records.frame import frame
from ppfr_bench.records.hashing import canonical_json, digest
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore


@pytest.fixture
def record() -> Record:
    return made.appearance("pixelate", "unet", {"lpips": 0.25}, draws={"lpips": [0.2, 0.3]})


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


# The schema ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["value", "interval", "draws"])
def test_nan_is_refused(bad: float, field: str) -> None:
    good: dict[str, Any] = {"value": 0.5, "n": 1}
    assert Estimate(**good).value == 0.5
    with pytest.raises(ValidationError):
        Estimate(**good | {field: {"value": bad, "interval": (0.1, bad), "draws": (bad,)}[field]})
    with pytest.raises(ValueError):
        canonical_json({"x": bad})


def test_missing_needs_a_reason(record: Record) -> None:
    with pytest.raises(ValidationError, match="needs a reason"):
        Estimate(None)
    with pytest.raises(ValidationError, match="needs a reason"):
        Record.model_validate(record.model_dump() | {"status": "failed", "reason": ""})
    with pytest.raises(ValidationError, match="names its attack"):
        Record.model_validate(record.model_dump() | {"attack": None})


@pytest.mark.parametrize(
    "changes",
    [{"key": "short"}, {"key": "G" * 64}, {"former_key": "short"}, {"samples": "../x.jpg"}, {"status": "great"},
     {"cell": "other"}, {"schema_version": 3}, {"surprise": 1}, {"seed": "first"},
     {"defense": {"label": "../x", "name": "x", "version": 1}}, {"attack": {"label": "x", "name": "X", "version": 1}}],
    ids=str,
)  # fmt: skip
def test_a_record_of_another_form_is_refused(changes: dict[str, Any], record: Record) -> None:
    (field,) = changes
    with pytest.raises(ValidationError, match=field):
        Record.model_validate(record.model_dump() | changes)


def test_a_number_that_is_not_there_is_a_missing_estimate_and_no_zero(record: Record) -> None:
    assert record.estimate("lpips", "leakage").value == 0.25 and record.estimate("lpips").key == record.key
    for name, part in (("ssim", "value"), ("lpips_blind", "value")):
        found = record.estimate(name, part)  # type: ignore[arg-type]
        assert (found.value, found.reason) == (None, f"the record has no {name}")
    failed = record.model_copy(update={"status": "failed", "reason": "out of memory", "metrics": {}})
    assert failed.estimate("lpips").reason == "out of memory"


def test_a_measurement_needs_its_version_and_its_direction() -> None:
    good: dict[str, Any] = {"metric": "ssim", "version": 1, "direction": "higher_is_better", "value": Estimate(0.5)}
    assert [part for part, _ in Measurement(**good).parts()] == ["value"]
    for name in good:
        with pytest.raises(ValidationError):
            Measurement(**{other: value for other, value in good.items() if other != name})


def test_the_digest_depends_on_content_alone() -> None:
    assert digest({"a": 1, "b": [1.5, "é"]}) == digest({"b": [1.5, "é"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2}) != digest({"a": "2"})
    # sha256 of {"a":1}, by coreutils: printf '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


# What goes in comes out ----------------------------------------------------------------------------------------------


def test_records_come_back_as_they_went_in_before_and_after_they_are_folded(tmp_path: Path) -> None:
    records, strips = made.quick()
    store = ResultStore(tmp_path)
    for one in records:
        store.write(one, strips.get(one.key))
    order = [(one.defense.label, *one.slot, one.seed) for one in store.records("quick")]
    assert order == sorted(order)
    for again in (False, True):
        found = list(store.records())
        assert found == list(store.records("quick")) == list(ResultStore(tmp_path).records())
        assert {one.key: one for one in found} == {one.key: one for one in records}
        assert store.statuses("quick") == {one.key: "ok" for one in records} == ResultStore(tmp_path).statuses("quick")
        assert all(store.find("quick", one.key) == one for one in records)
        assert {one.key: store.strip(one) for one in records if one.samples} == strips
        assert store.suites() == ["quick"] and store.find("quick", "0" * 64) is None
        if not again:
            assert not made.published(tmp_path / "quick")
            store.compact("quick")
            assert not list((tmp_path / "quick/.cells").glob("*.j*"))


def test_the_same_records_give_the_same_bytes_in_few_files(tmp_path: Path) -> None:
    records, strips = made.quick()
    one, other = ResultStore(tmp_path / "one"), ResultStore(tmp_path / "other")
    for record in records:
        one.write(record, strips.get(record.key))
    one.compact("quick")
    for i, record in enumerate(reversed(records)):
        other.write(record, strips.get(record.key))
        if i % 20 == 0:
            other.compact("quick")
    other.compact("quick")
    found = made.published(tmp_path / "one/quick")
    assert found == made.published(tmp_path / "other/quick")
    assert set(found) == {
        "draws.parquet",
        *(f"synthetic/{name}.{end}" for name in made.STORY for end in ("jsonl", "jpg")),
    }
    one.compact("quick")
    assert made.published(tmp_path / "one/quick") == found, "there was nothing to fold"


def test_a_line_can_be_read_and_a_changed_record_changes_one(record: Record, store: ResultStore) -> None:
    other = made.appearance("pixelate", "ridge", {"lpips": 0.5}, draws={"lpips": [0.4, 0.6]})
    folder = made.filled(store, record, other)
    path = folder / "synthetic/pixelate.jsonl"
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(head)["shared"]["defense"]["label"] == "pixelate"
    assert [json.loads(line)["attack"]["label"] for line in lines] == ["ridge", "unet"]
    assert all("0.2, 0.3" not in line and '"draws": 1' in line for line in lines), "draws lie in the Parquet"
    made.filled(store, record.model_copy(update={"flags": ("measured_again",)}))
    head_now, *now = path.read_text(encoding="utf-8").splitlines()
    assert (head_now, now[0]) == (head, lines[0]) and "measured_again" in now[1]


def test_text_with_separators_of_its_own_comes_back(store: ResultStore) -> None:
    """U+2028 and U+0085 end lines for Python's splitlines and for no JSON."""
    bad = made.record("pixelate", "attack", attack="unet", status="failed", reason="one\u2028two\x85three\r\nfour é")
    made.filled(store, bad)
    assert list(ResultStore(store.root).records()) == [bad]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30), min_size=1))
def test_every_draw_comes_back_as_the_double_that_it_was(values: list[float]) -> None:
    """Single precision tells five digits apart wherever it is not close to zero, where nothing is measured."""
    rounded = [float(f"{value:.5g}") if abs(value) > 1e-30 else 0.0 for value in values]
    content = draws.write({"k": {("lpips", "leakage"): rounded}})
    assert content == draws.write({"k": {("lpips", "leakage"): rounded}})
    found = draws.read(content, "draws")["k"]["lpips", "leakage"]
    assert list(draws.numbers(found)) == rounded
    assert draws.write({"k": {("lpips", "leakage"): found}}) == content, "what was read is written as it was"
    assert draws.keys_of(content, "draws") == {"k"}


def test_draws_with_more_digits_than_scorers_give_are_refused_at_once(store: ResultStore) -> None:
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, draws={"lpips": [1 / 3]})
    with pytest.raises(ValueError, match="more than 5 digits"):
        store.write(record)
    assert store.suites() == []


def test_a_record_measured_again_takes_the_place_of_the_first(record: Record, store: ResultStore) -> None:
    again = made.appearance("pixelate", "unet", {"lpips": 0.75}, draws={"lpips": [0.7, 0.8]})
    assert again.key == record.key
    made.filled(store, record)
    store.write(again)
    assert list(store.records()) == [again] == [store.find("quick", again.key)]
    store.compact("quick")
    assert list(store.records()) == [again]


def test_a_record_that_comes_under_another_label_leaves_its_former_row(record: Record, store: ResultStore) -> None:
    """A key holds no label, so a suite may call the same defense otherwise than before."""
    folder = made.filled(store, record)
    renamed = record.model_copy(update={"defense": record.defense.model_copy(update={"label": "mosaic"})})
    made.filled(store, renamed)
    assert list(store.records()) == [renamed]
    assert set(made.published(folder)) == {"draws.parquet", "synthetic/mosaic.jsonl"}


def test_a_failure_does_not_take_the_place_of_what_was_measured(record: Record, store: ResultStore) -> None:
    """Of another process, say, that a user has stopped and that ends late: before the record is folded, and after."""
    failed = record.model_copy(update={"status": "failed", "reason": "MemoryError", "metrics": {}})
    store.write(failed)
    store.write(record)
    store.write(failed)
    assert list(store.records()) == [record]
    store.compact("quick")
    ResultStore(store.root).write(failed)
    store.compact("quick")
    assert list(ResultStore(store.root).records()) == [record]


def test_draws_of_what_a_cell_was_before_are_removed(record: Record, store: ResultStore) -> None:
    """Another outcome without draws takes the place of one with some, such as a cell that is skipped now."""
    other = made.utility("blur", "dlib_resnet", 0.5, draws=[0.4, 0.6])
    made.filled(store, record, other)
    skipped = record.model_copy(update={"status": "skipped", "reason": "no weights", "metrics": {}})
    store.write(skipped)
    store.compact("quick")
    for reader in (store, ResultStore(store.root)):
        assert sorted(reader.records(), key=lambda one: one.key) == sorted([skipped, other], key=lambda one: one.key)
    content = (Path(str(store.root)) / "quick/draws.parquet").read_bytes()
    assert draws.keys_of(content, "draws.parquet") == {other.key}


# Sample faces --------------------------------------------------------------------------------------------------------


def test_sample_faces_are_there_before_the_record(store: ResultStore) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, samples=picture)
    store.write(record, picture)
    cells = Path(str(store.root)) / "quick/.cells"
    strip, text = cells / f"{record.key}.jpg", cells / f"{record.key}.json"
    assert strip.read_bytes() == picture and strip.stat().st_mtime_ns <= text.stat().st_mtime_ns


def test_only_its_own_faces_are_kept_with_a_record_and_none_of_real_people(store: ResultStore) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, samples=picture)
    real = record.model_copy(update={"real_people": True})
    for bad, strip in (
        (record, made.strip(2, "clear")), (record, b"no picture"), (record.model_copy(update={"samples": ""}), picture),
        (real, picture),
    ):  # fmt: skip
        store.write(bad, strip)
        assert store.strip(bad) is None and not list(Path(str(store.root)).rglob("*.jpg"))
    store.write(record, picture)
    assert store.strip(record) == picture and store.strip(real) is None


def test_strips_of_any_width_and_of_noise_lie_on_one_sheet_and_are_cut_out_whole() -> None:
    noise = np.random.RandomState(0).randint(0, 256, (40, 6, 3, 112, 112), dtype=np.uint8)
    strips = [samples.strip_of(list(faces)) for faces in noise[:20]]
    strips += [samples.strip_of(list(faces[:2])) for faces in noise[20:]] + [made.strip(3, "rebuilt")]
    named = {samples.name_of(strip): strip for strip in strips}
    sheet, note = samples.sheet_of(named)
    assert samples.strips_of(sheet, named, note) == named, "as it is noted"
    assert samples.strips_of(sheet, named) == named, "by their pixels"
    assert samples.strips_of(sheet, named, note | {"sha256": "0" * 64}) == named, (
        "by their pixels, as the note is foreign"
    )
    assert samples.strips_of(sheet, {"0" * 64}, note) == samples.strips_of(b"no sheet", named, note) == {}


def test_strips_that_jpeg_keeps_changing_are_found_where_they_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_ROUNDS", 1)
    rough = np.random.RandomState(1).randint(0, 256, (3, 2, 3, 112, 112), dtype=np.uint8)
    named = {samples.name_of(strip): strip for strip in map(samples.strip_of, map(list, rough))}
    sheet, note = samples.sheet_of(named)
    assert samples.strips_of(sheet, named, note).keys() == named.keys()
    assert samples.strips_of(sheet, named) == {}


def test_another_sheet_than_the_row_has_noted_shows_nothing_that_is_on_no_record(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for defense in ("pixelate", "gaussian_blur"):
        picture = made.strip(len(defense), "clear")
        store.write(made.appearance(defense, "unet", {"lpips": 0.25}, samples=picture), picture)
    store.compact("quick")
    ours, theirs = (tmp_path / f"quick/synthetic/{defense}.jpg" for defense in ("pixelate", "gaussian_blur"))
    theirs.replace(ours)
    assert [ResultStore(tmp_path).strip(record) for record in store.records()] == [None, None]


# Plan, set-aside records, index --------------------------------------------------------------------------------------


def test_plans_are_merged_and_read_cell_by_cell(tmp_path: Path) -> None:
    store, (records, _) = ResultStore(tmp_path), made.quick()
    assert store.plan("quick") is None
    first, second = made.plan_of(records[:10]), made.plan_of(records[5:])
    store.write_plan(first)
    assert store.plan("quick") == first and store.suites() == ["quick"]
    store.write_plan(second)
    assert store.plan("quick") == first.merged(second)
    path = tmp_path / "quick/plan.json"
    before, text = path.stat().st_mtime_ns, path.read_text(encoding="utf-8")
    assert all(
        any(record.key in line and record.defense.label in line for line in text.split("\n")) for record in records
    )
    store.write_plan(first)
    assert path.stat().st_mtime_ns == before, "it said so already"
    path.write_text(text.replace('"suite"', '"sweet"'), encoding="utf-8")
    with pytest.raises(UserError, match=r"plan\.json is no plan: .*\n.*git"):
        store.plan("quick")


def test_what_is_set_aside_is_found_by_its_key_and_read_by_no_board(tmp_path: Path) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, draws={"lpips": [0.2, 0.3]}, samples=picture)
    other = made.utility("pixelate", "dlib_resnet", 0.5, draws=[0.4, 0.6])
    store, folder = ResultStore(tmp_path), tmp_path / "quick"
    store.write(record, picture)
    store.write(other)
    store.compact("quick")
    before = made.published(folder)
    assert store.set_aside("quick", [record.key, "0" * 64], "superseded") == [record.key]
    assert store.aside_count() == 1 and Path(str(store.aside("quick"))) == folder / "set-aside"
    assert set(made.published(folder / "set-aside/superseded")) == {
        "draws.parquet", "synthetic/pixelate.jsonl", "synthetic/pixelate.jpg"
    }  # fmt: skip
    assert set(made.published(folder)) - set(before) == {
        f"set-aside/superseded/{name}" for name in made.published(folder / "set-aside/superseded")
    }
    assert list(store.records()) == list(store.records("quick")) == [other]
    assert store.find("quick", record.key) == record and store.strip(record) == picture
    assert store.statuses("quick") == {record.key: "ok", other.key: "ok"}
    assert list(store.set_aside_records(None, record.key[:8])) == [record]
    assert list(store.set_aside_records("quick", other.key)) == []
    assert store.bring_back("quick", [record.key, other.key]) == [record.key]
    assert made.published(folder) == before and store.aside_count() == 0
    assert store.bring_back("quick", [record.key]) == [], "it is there already"


def test_what_is_in_its_place_is_not_written_over(tmp_path: Path) -> None:
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, draws={"lpips": [0.2, 0.3]})
    again = record.model_copy(update={"flags": ("measured_again",)})
    store = ResultStore(tmp_path)
    store.write(record)
    store.set_aside("quick", [record.key], "superseded")
    store.write(again)
    assert store.bring_back("quick", [record.key]) == [] and store.aside_count() == 1
    assert store.find("quick", record.key) == again


def test_all_records_of_one_data_set_come_back_from_a_shelf(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    records = [
        made.utility("pixelate", "dlib_resnet", 0.5, dataset=name, draws=[0.4, 0.6]) for name in ("lfw", "synthetic")
    ]
    for record in records:
        store.write(record)
    store.set_aside("quick", [record.key for record in records], "data-1")
    assert store.bring_back_shelf("quick", "data-1", "lfw") == [records[0].key]
    assert list(store.records()) == records[:1] and store.aside_count() == 1
    assert store.bring_back_shelf("quick", "data-2", "lfw") == []


def test_the_index_has_a_row_for_each_number_and_one_for_a_cell_without(record: Record, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    store = ResultStore(tmp_path)
    bad = made.record(
        "pixelate", "attack", attack="ridge", measures="appearance", status="failed", reason="out of memory"
    )
    for one in (record, bad):
        store.write(one)
    store.write_index()
    table = pd.read_parquet(tmp_path / "index.parquet")
    assert len(table) == 5 == len(frame([record, bad]))
    assert list(table.columns) == [
        "suite", "dataset", "defense", "cell", "attack", "recognizer", "status", "reason", "seed", "key", "metric",
        "value", "low", "high", "n",
    ]  # fmt: skip
    assert set(table["metric"]) == {"lpips", "lpips_blind", "lpips_ceiling", "leakage_lpips", ""}
    row = table[table["metric"] == "leakage_lpips"].iloc[0]
    assert (row["value"], row["low"], row["n"]) == (0.25, pytest.approx(0.2025), 120)
    empty = table[table["status"] == "failed"].iloc[0]
    assert empty["reason"] == "out of memory" and pd.isna(empty["value"])


def test_no_results(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "nowhere")
    for suite in ("quick", None):
        with pytest.raises(UserError, match="no results at") as error:
            list(store.records(suite))
        assert "ppfr-bench run quick" in error.value.hint
    assert store.suites() == [] and store.statuses("quick") == {} and store.aside_count() == 0
    store.compact("quick")
    assert not Path(str(store.root)).exists(), "whoever only asks makes no folder"


# Writing -------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_explained(record: Record, tmp_path: Path) -> None:
    blocked = tmp_path / "results"
    blocked.write_text("a file where the folder should be")
    store = ResultStore(blocked)
    for act in (lambda: store.write(record), lambda: store.write_plan(made.plan_of([record]))):
        with pytest.raises(UserError, match="cannot write") as error:
            act()
        assert "--results" in error.value.hint
