"""What the store says of damaged files of records, plans and draws."""

from __future__ import annotations

import json
from pathlib import Path

import made_records as made
import pytest

from ppfr_bench.errors import UserError
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore


@pytest.fixture
def record() -> Record:
    return made.appearance("pixelate", "unet", {"lpips": 0.25}, draws={"lpips": [0.2, 0.3]})


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"schema_version": 2', '"schema_version": 3', r"expected schema_version 2, got 3\n.*newer ppfr-bench"),
        ('"schema_version": 2', '"schema_version": 1', "expected schema_version 2, got 1"),
        ('"shared"', '"Shared"', "line 1 does not head"),
        ('"status": "ok"', '"status": "great"', "status"),
        ('"cell": "attack"', '"cell": "attack", "surprise": 1', "surprise"),
        ('"value": 0.25', '"value": NaN', "finite"),
        ('"value": 0.25', '"value": "much"', "value"),
        ('{"attack"', '{"attack', "line 2 is not a record"),
        ('{"attack": {', '["attack", {', "line 2 is not a record"),
        ('"cell": "attack", ', "", "line 2 is not a record"),
        ('"label": "pixelate"', '"label": "blackout"', r"line 2: its record belongs to quick/synthetic/blackout"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_line(
    old: str, new: str, says: str, record: Record, store: ResultStore
) -> None:
    path = made.filled(store, record) / "synthetic/pixelate.jsonl"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    for reader in (store, ResultStore(store.root)):
        with pytest.raises(UserError, match=says) as error:
            list(reader.records())
        assert error.value.hint and ("pixelate.jsonl" in error.value.message or record.key[:12] in error.value.message)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"schema_version": 2}', b"x" * 10 + b"\n\n"])
def test_what_is_no_file_of_records_is_refused(content: bytes, record: Record, store: ResultStore) -> None:
    path = made.filled(store, record) / "synthetic/pixelate.jsonl"
    path.write_bytes(content)
    for question in (lambda: list(store.records()), lambda: store.statuses("quick"), lambda: store.compact("quick")):
        with pytest.raises(UserError, match=r"pixelate\.jsonl"):
            question()


def test_the_line_that_is_not_text_is_named_and_so_is_one_that_comes_twice(record: Record, store: ResultStore) -> None:
    path = made.filled(store, record) / "synthetic/pixelate.jsonl"
    head, line, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, line, b"\xff", b""]))
    with pytest.raises(UserError, match="line 3 is not a record: it is not UTF-8"):
        list(store.records())
    path.write_bytes(b"\n".join([head, line, line, b""]))
    with pytest.raises(UserError, match="line 3: another line has the key"):
        list(store.records())


def test_lost_draws_are_noticed(record: Record, store: ResultStore) -> None:
    """A record without its draws would get other intervals on a page."""
    path = made.filled(store, record) / "draws.parquet"
    whole = path.read_bytes()
    path.unlink()
    for reader in (store, ResultStore(store.root)):
        with pytest.raises(UserError, match=r"draws\.parquet lacks draws of 1 records") as error:
            list(reader.records())
        assert "git" in error.value.hint
    path.write_bytes(whole[:100])
    for question in (lambda: list(store.records()), lambda: store.statuses("quick"), lambda: store.compact("quick")):
        with pytest.raises(UserError, match="holds no draws") as error:
            question()
        assert f"rm '{path}'" in error.value.hint


@pytest.mark.parametrize("shelf", ["", "set-aside/superseded/"])
def test_a_run_measures_again_what_has_lost_its_draws(shelf: str, record: Record, store: ResultStore) -> None:
    """Also where other records, which this run does not measure, have lost theirs."""
    other = made.utility("blur", "dlib_resnet", 0.5, draws=[0.4, 0.6])
    without = made.record("blackout", "utility", recognizer="dlib_resnet", status="failed", reason="x")
    folder = made.filled(store, record, other, without)
    if shelf:
        store.set_aside("quick", [record.key, other.key, without.key], "superseded")
    path = folder / f"{shelf}draws.parquet"
    whole = path.read_bytes()
    path.unlink()
    assert store.statuses("quick") == {without.key: "failed"}, "what has no draws can lose none"
    assert store.set_aside("quick", ["0" * 64], "another") == []
    assert store.bring_back("quick", [record.key, without.key]) == ([without.key] if shelf else [])
    store.write(record)
    store.compact("quick")
    assert store.statuses("quick") == {record.key: "ok", without.key: "failed"}
    assert store.bring_back("quick", [record.key, without.key]) == []
    assert store.find("quick", record.key) == record and store.find("quick", without.key) == without
    if shelf:
        assert list(store.records()) == [without, record]
    store.write(other)
    store.compact("quick")
    assert sorted(one.key for one in store.records()) == sorted([record.key, other.key, without.key])
    if not shelf:
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b'{"suite": "qui', bytes(200), b"\xff", b"{}"])
def test_a_plan_that_is_torn_says_what_to_delete(content: bytes, record: Record, store: ResultStore) -> None:
    path = made.filled(store, record) / "plan.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"plan\.json") as error:
        store.plan("quick")
    assert f"rm '{path}'" in error.value.hint


def test_a_cell_that_is_no_record_is_named_and_is_not_folded(record: Record, store: ResultStore) -> None:
    store.write(record)
    path = Path(str(store.root)) / f"quick/.cells/{'0' * 64}.json"
    for content in (b"", b"{}", b"[1]", json.dumps(json.loads((path.parent / f"{record.key}.json").read_text())
                                                   | {"surprise": 1, "key": "0" * 64}).encode()):  # fmt: skip
        path.write_bytes(content)
        for question in (lambda: list(store.records()), lambda: store.compact("quick")):
            with pytest.raises(UserError, match=r"\.cells/0000") as error:
                question()
            assert error.value.hint
        assert (path.parent / f"{record.key}.json").is_file() and not made.published(path.parent.parent)
