"""The record and its store: whole files only, one place for each, nothing that is not a number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_records as made
import pytest
from pydantic import ValidationError

from ppfr_bench.errors import UserError
from ppfr_bench.results import MetricValue, Record, ResultStore, canonical_json, digest, frame, write_atomic


@pytest.fixture
def record() -> Record:
    found: Record = made.appearance("pixelate", "unet", {"lpips": 0.25}, replicates={"lpips": [0.2, 0.3]})
    return found


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_record_comes_back_as_it_went_in_at_the_same_bytes(record: Record, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.write(record)
    assert path == tmp_path / "quick/synthetic/pixelate/unet" / f"{record.key}.json"
    first = path.read_bytes()
    assert store.read(path) == record == store.find(record.folder, record.key)
    store.write(store.read(path))
    assert path.read_bytes() == first
    assert list(store.records()) == [record] == list(store.records("quick"))
    assert store.find(record.folder, "0" * 64) is None


def test_the_picture_is_there_before_the_record(tmp_path: Path) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, samples=picture)
    path = ResultStore(tmp_path).write(record, picture)
    beside = path.with_name(record.samples)
    assert beside.read_bytes() == picture
    assert beside.stat().st_mtime_ns <= path.stat().st_mtime_ns


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["value", "interval", "replicates"])
def test_nan_is_refused(bad: float, field: str) -> None:
    good: dict[str, Any] = {"value": 0.5, "n": 1, "version": 1, "direction": "higher_is_better"}
    assert MetricValue(**good).value == 0.5
    with pytest.raises(ValidationError):
        MetricValue(**good | {field: {"value": bad, "interval": (0.1, bad), "replicates": (bad,)}[field]})
    with pytest.raises(ValueError):
        canonical_json({"x": bad})


def test_missing_needs_a_reason(record: Record) -> None:
    with pytest.raises(ValidationError, match="needs a reason"):
        MetricValue(value=None, n=0, version=1, direction="higher_is_better")
    with pytest.raises(ValidationError, match="needs a reason"):
        Record.model_validate(record.model_dump() | {"status": "failed", "reason": ""})
    with pytest.raises(ValidationError, match="names its attack"):
        Record.model_validate(record.model_dump() | {"attack": None})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "expected schema_version 1, got 2"),
        ({"schema_version": None}, "expected schema_version 1, got None"),
        ({"status": "great"}, "status"),
        ({"surprise": 1}, "surprise"),
        ({"key": "short"}, "key"),
    ],
)
def test_a_record_of_another_kind_is_refused_by_name(
    changes: dict[str, Any], says: str, record: Record, tmp_path: Path
) -> None:
    store = ResultStore(tmp_path)
    path = store.write(record)
    edit(path, **changes)
    with pytest.raises(UserError, match=says) as error:
        store.read(path)
    assert str(path) in error.value.message and error.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"schema_version": 1, "metrics": NaN}'])
def test_what_is_no_record_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(UserError):
        ResultStore(tmp_path).read(path)


def test_nan_in_a_file_is_refused(record: Record, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.write(record)
    text = path.read_text()
    assert '"value": 0.25' in text
    path.write_text(text.replace('"value": 0.25', '"value": NaN'))
    with pytest.raises(UserError, match="finite"):
        store.read(path)


def test_a_moved_record_is_noticed(record: Record, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    path = store.write(record)
    moved = tmp_path / "quick/synthetic/blackout/unet" / path.name
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(UserError, match="belongs at"):
        list(store.records())


def test_what_is_set_aside_is_found_by_its_key_and_read_by_no_board(tmp_path: Path) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, samples=picture)
    store = ResultStore(tmp_path)
    path = store.write(record, picture)
    before = path.read_bytes()
    store.set_aside(path, "superseded")
    aside = tmp_path / "quick/set-aside/superseded/synthetic/pixelate/unet" / path.name
    assert store.paths_aside() == store.paths_aside("quick") == [aside] and store.paths_aside("smoke") == []
    assert store.is_aside(aside) and not store.is_aside(path)
    assert list(store.records()) == list(store.records("quick")) == []
    assert store.locate(record.folder, record.key) == aside and store.find(record.folder, record.key) == record
    assert aside.with_name(str(record.samples)).read_bytes() == picture and not path.with_suffix(".jpg").exists()
    assert store.bring_back(aside) and path.read_bytes() == before
    assert path.with_suffix(".jpg").read_bytes() == picture and store.paths_aside() == []
    assert not store.bring_back(aside), "it is there already"
    store.set_aside(path, "superseded")
    store.write(record.model_copy(update={"flags": ("measured_again",)}), picture)
    assert not store.bring_back(aside) and aside.is_file(), "what is there is not written over"
    found = store.find(record.folder, record.key)
    assert found is not None and found.flags == ("measured_again",)


def test_a_move_that_was_cut_short_leaves_a_record_with_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = made.strip(1, "clear")
    record = made.appearance("pixelate", "unet", {"lpips": 0.25}, samples=picture)
    store = ResultStore(tmp_path)
    path = store.write(record, picture)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.set_aside(path, "superseded")
    (aside,) = store.paths_aside()
    assert aside.with_suffix(".jpg").read_bytes() == picture
    store.set_aside(path, "superseded")  # gone: nothing happens
    assert store.paths_aside() == [aside]


def test_the_revision_of_a_record_is_read_off_its_text(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for revision in ("r" * 16, 'with "quotes" and é'):
        path = store.write(made.appearance("pixelate", "unet", {"lpips": 0.25}, revision=revision))
        assert store.revision_of(path) == revision == store.read(path).dataset_revision
    path.write_text(json.dumps(json.loads(path.read_text())))  # in another form
    assert store.revision_of(path) == revision


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results at") as error:
        list(ResultStore(tmp_path / "nowhere").records("quick"))
    assert "ppfr-bench run quick" in error.value.hint


def test_a_write_killed_half_way_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A process dies, by the kernel's hand, after half of the new content is on disk."""
    path = tmp_path / "r" / "file.json"
    write_atomic(path, b"old")
    script = f"""
import os, signal
from pathlib import Path
from ppfr_bench import results
def die(descriptor):
    assert Path({str(path)!r}).read_bytes() == b"old"
    os.kill(os.getpid(), signal.SIGKILL)
results.os.fsync = die
results.write_atomic(Path({str(path)!r}), b"new content")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 2, "the half-written file lies beside it under a temporary name"
    assert not list(path.parent.glob("*.json.tmp")) and list(path.parent.glob("*.json")) == [path]
    write_atomic(path, b"new content")
    assert path.read_bytes() == b"new content"


def test_a_folder_that_cannot_be_written_is_explained(record: Record, tmp_path: Path) -> None:
    blocked = tmp_path / "results"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write") as error:
        ResultStore(blocked).write(record)
    assert "--results" in error.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_explained_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    # The temporary name leads to a device that is always full: the error is the kernel's own.
    (tmp_path / f".file.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        write_atomic(path, b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_the_digest_depends_on_content_alone() -> None:
    assert digest({"a": 1, "b": [1.5, "é"]}) == digest({"b": [1.5, "é"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2}) != digest({"a": "2"})
    # sha256 of {"a":1}, by coreutils: printf '{"a":1}' | sha256sum
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_the_index_has_a_row_for_each_metric_and_one_for_a_cell_without(record: Record, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    store = ResultStore(tmp_path)
    bad = made.record(
        "pixelate", "attack", attack="ridge", measures="appearance", status="failed", reason="out of memory"
    )
    store.write(record)
    store.write(bad)
    table = pd.read_parquet(store.write_index())
    assert len(table) == len(record.metrics) + 1 == len(frame([record, bad]))
    row = table[table["metric"] == "leakage_lpips"].iloc[0]
    assert (row["value"], row["low"], row["n"]) == (0.25, pytest.approx(0.2025), 120)
    empty = table[table["status"] == "failed"].iloc[0]
    assert empty["reason"] == "out of memory" and pd.isna(empty["value"])
