"""Records of version 0.1 are read for ever: real ones, of each kind of cell and each scorer, kept in tests/fixtures."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from records_v1 import RECORDS, STRIPS, data_of, only, unpack

from ppfr_bench.errors import UserError
from ppfr_bench.records import legacy, samples
from ppfr_bench.records.estimate import column
from ppfr_bench.records.frame import frame
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore


def named(what: str) -> Record:
    """The kept record of a defense and what is measured: ``pixelate/unet``."""
    return legacy.upgrade(data_of(only(f"*/*/{what}/*.json")))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_number_is_there_under_its_former_name(path: PurePosixPath) -> None:
    data, record = data_of(path), legacy.upgrade(data_of(path))
    parts = {column(name, part): (found, one) for name, found in record.metrics.items() for part, one in found.parts()}
    assert parts.keys() == data["metrics"].keys()
    for name, then in data["metrics"].items():
        measured, now = parts[name]
        assert (now.value, now.n, now.reason) == (then["value"], then["n"], then["reason"])
        assert list(now.interval or ()) == (then["interval"] or []) and list(now.draws) == then["replicates"]
        if name in record.metrics:
            assert (measured.direction, measured.version) == (then["direction"], then["version"])
            assert measured.unit == then["unit"]
    same = ("key", "suite", "cell", "seed", "status", "reason", "flags", "dataset_revision", "real_people", "surrogate",
            "knowledge")  # fmt: skip
    told = record.model_dump(mode="json")
    assert {name: told[name] for name in same} == {name: data[name] for name in same}
    for name in ("dataset", "defense", "attack", "recognizer", "environment", "cost", "guarantee"):
        then = data[name]
        if name == "defense" and then["name"] == "identity":
            then = then | {"name": "no_defense", "label": "no_defense"}
        if name == "cost":
            then = then | {"shared": 0.0}  # Version 0.1 did not tell.
        assert told[name] == then
    assert record.schema_version == 2 and record.samples == (data["samples_sha256"] or "")
    assert legacy.upgrade(told | {"schema_version": 1} | data) == record, "a dict is not changed by reading it"


@pytest.mark.parametrize(
    ("what", "track", "scorer", "sets"),
    [
        ("pixelate/unet", "image", "reconstruction", "appearance"),
        ("identity/visual", "image", "reconstruction", "appearance"),
        ("minusface/attributes", "representation", "attributes", "appearance"),
        ("minusface/linkage", "representation", "linkage", "identity"),
        ("identity/linkage_unet", "image", "linkage", "identity"),
        ("duetface/unlinkability", "representation", "unlinkability", ""),
        ("blackout/random_face", "image", "control", ""), ("blackout/nearest", "image", "control", ""),
        ("identity/canary", "image", "", ""), ("blackout/utility", "image", "", ""),
        ("ppfr_fd/utility", "representation", "", ""),
    ],
)  # fmt: skip
def test_what_was_measured_has_its_scorer_and_the_privacy_that_it_sets(
    what: str, track: str, scorer: str, sets: str
) -> None:
    record = named(what)
    assert (record.track, record.scorer, record.sets) == (track, scorer, sets)
    assert "track" not in record.defense_card and "output" not in record.defense_card


def test_parts_of_a_measurement_are_together_again() -> None:
    lpips = named("pixelate/unet").metrics["lpips"]
    assert lpips.metric == "lpips" and lpips.floor and lpips.ceiling and lpips.leakage and lpips.lower_is_more_alike
    assert lpips.leakage.draws and lpips.ceiling.value is not None and lpips.value.value is not None
    utility = named("blackout/utility").metrics
    assert {name for name, one in utility.items() if one.metric == "accuracy"} == {
        "accuracy", "accuracy_frozen", "clear_accuracy"
    }  # fmt: skip
    assert {one.metric for one in named("minusface/attributes").metrics.values()} == {"attribute_error"}


def test_what_an_attack_reported_of_its_training_is_typed() -> None:
    unet, adapted = named("pixelate/unet"), named("ppfr_fd/utility")
    assert unet.training is not None and unet.log == {}
    log = next(data_of(path) for path in RECORDS if "pixelate" in path.parts)["log"]
    assert (unet.training.shots, unet.training.steps) == (log.get("shots", 1), log["steps"])
    assert unet.training.validation == tuple((step, error) for step, error in log["validation"])
    assert unet.training.notes == {
        key: value for key, value in log.items()
        if key not in ("shots", "training_images", "steps", "validation", "converged")
    }  # fmt: skip
    assert named("duetface/unlinkability").training == type(unet.training)(shots=1)
    assert adapted.adapted and adapted.training is None and adapted.log["training_images"]
    assert "expected_accuracy" in named("identity/canary").log
    assert named("dp_pix/utility").guarantee is not None


def test_a_folder_of_them_is_read_as_it_is(tmp_path: Path) -> None:
    unpack(tmp_path / "results")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "results").rglob("*")) if path.is_file()}
    store = ResultStore(tmp_path / "results")
    assert store.suites() == ["lfw_quick", "standard"] and store.plan("standard") is None
    records = list(store.records())
    assert {record.key for record in records} == {path.stem for path in RECORDS}
    assert store.statuses("standard") == {record.key: "ok" for record in records if record.suite == "standard"}
    assert all(store.find(record.suite, record.key) == record for record in records)
    assert len(frame(records)) == sum(len(data_of(path)["metrics"]) for path in RECORDS)
    with_faces = {record.key for record in records if store.strip(record) is not None}
    assert with_faces == {path.stem for path in STRIPS} and len(with_faces) == 3
    assert {path: path.read_bytes() for path in sorted((tmp_path / "results").rglob("*")) if path.is_file()} == before


def test_they_are_set_aside_and_come_back_in_the_form_of_today(tmp_path: Path) -> None:
    unpack(tmp_path / "results")
    store, folder = ResultStore(tmp_path / "results"), tmp_path / "results/standard"
    record = next(one for one in store.records() if one.slot[1] == "unet")
    assert store.set_aside("standard", [record.key], "superseded") == [record.key]
    assert not list(folder.glob("synthetic/pixelate/**/*.j*"))
    for _ in range(2):
        found = store.find("standard", record.key)
        assert found is not None and found == record.model_copy(update={"samples": found.samples})
        strip = store.strip(found)
        assert strip is not None and samples.name_of(strip) == found.samples
        store.bring_back("standard", [record.key])
    assert (folder / "synthetic/pixelate.jsonl").is_file() and store.aside_count() == 0


def test_what_version_0_1_had_set_aside_is_found(tmp_path: Path) -> None:
    aside = tmp_path / "results/standard/set-aside/superseded"
    unpack(aside, "standard")
    store = ResultStore(tmp_path / "results")
    key = next(aside.rglob("*.json")).stem
    assert store.find("standard", key) is not None and store.aside_count() == len(list(aside.rglob("*.json")))
    assert [record.key for record in store.set_aside_records("standard", key[:8])] == [key]
    assert store.statuses("standard")[key] == "ok"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "expected schema_version 1, got 2"),
        ({"schema_version": None}, "expected schema_version 1"),
        ({"status": "great"}, "status"), ({"surprise": 1}, "surprise"), ({"measures": "colour"}, "colour"),
        ({"metrics": {"lpips": {}}}, "version"), ({"metrics": [1]}, "is not a record"),
        ({"log": {"steps": "many"}}, "steps"),
    ],
)  # fmt: skip
def test_what_is_no_such_record_is_refused_by_name(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    unpack(tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*/*/pixelate/unet/*.json")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        list(ResultStore(tmp_path / "results").records())
    assert str(path) in error.value.message and error.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"schema_version": 1, "metrics": NaN}'])
def test_a_file_that_is_nothing_of_the_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    unpack(tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*/*/pixelate/unet/*.json")
    path.write_bytes(content)
    store = ResultStore(tmp_path / "results")
    for question in (lambda: list(store.records()), lambda: store.statuses("standard")):
        with pytest.raises(UserError, match="is not a record") as error:
            question()
        assert str(path) in error.value.message
