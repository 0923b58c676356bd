"""Records behind a URL: moto's S3 server, a process of its own, and a file system in memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import made_records as made
import pytest
from made_kills import by_key, contents, write_at_once

from ppfr_bench.errors import UserError
from ppfr_bench.records import storage
from ppfr_bench.records.store import ResultStore


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    pytest.importorskip("s3fs")
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    command = [sys.executable, "-u", "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Running on" in line:
                break
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait()
        drain.join()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL below an empty bucket, found through the environment that all of AWS's tools know."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (keys | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{server}/faces", method="PUT")).close()
    return "s3://faces/some/results"


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The root of a store."""
    if request.param == "s3":
        return str(request.getfixturevalue("bucket"))
    return f"memory://{tmp_path.name}/results"


def test_a_url_holds_the_bytes_that_a_folder_holds(url: str, tmp_path: Path) -> None:
    records, strips = made.quick()
    here, there = ResultStore(tmp_path / "results"), ResultStore(url)
    assert there.suites() == [] and there.plan("quick") is None and there.statuses("quick") == {}
    with pytest.raises(UserError, match=f"no results at {url}"):
        list(there.records("quick"))
    for store in (here, there):
        for record in records[:30]:
            store.write(record, strips.get(record.key))
        assert by_key(store.records()) == {record.key: record for record in records[:30]}
        store.compact("quick")
        store.write_plan(made.plan_of(records))
        assert store.set_aside("quick", [records[5].key], "superseded") == [records[5].key]
        store.write_index()
    assert contents(there.files) == contents(here.files)
    again = ResultStore(url)
    assert again.suites() == ["quick"] and again.aside_count() == 1
    assert list(again.records("quick")) == list(here.records("quick")) and len(list(again.records())) == 29
    assert again.find("quick", records[5].key) == records[5] and again.find("quick", "0" * 64) is None
    assert again.statuses("quick") == here.statuses("quick") and again.plan("quick") == here.plan("quick")
    assert [again.strip(record) for record in records[:30]] == [strips.get(record.key) for record in records[:30]]
    assert again.bring_back("quick", [records[5].key]) == [records[5].key] and again.aside_count() == 0
    assert len(list(there.records())) == 30, "what others have written is seen"


def test_processes_that_write_and_fold_at_one_url_lose_nothing(bucket: str) -> None:
    write_at_once(bucket)


def test_a_lock_whose_holder_was_killed_is_taken_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "STALE", 0.5)
    store = ResultStore(url)
    store.write(made.utility("pixelate", "dlib_resnet", 0.5))
    store.files.write("quick/.cells/.lock", b"of a process that is no more")
    store.compact("quick")
    assert set(contents(store.files)) == {"quick/synthetic/pixelate.jsonl"}


def test_a_line_that_is_damaged_is_named_with_its_url(url: str) -> None:
    store = ResultStore(url)
    store.write(made.utility("pixelate", "dlib_resnet", 0.5))
    store.compact("quick")
    path = "quick/synthetic/pixelate.jsonl"
    content = store.files.read(path)
    assert content is not None and json.loads(content.splitlines()[0])
    store.files.write(path, content[:-20])
    with pytest.raises(UserError, match=f"{url}/{path}, line 2 is not a record"):
        list(store.records())


def test_what_cannot_be_reached_is_explained(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = made.utility("pixelate", "dlib_resnet", 0.5)
    with pytest.raises(UserError, match="cannot write s3://nowhere/results/quick") as error:
        ResultStore("s3://nowhere/results").write(record)
    assert "credentials" in error.value.hint
    with pytest.raises(UserError, match="no results at s3://nowhere/results"):
        list(ResultStore("s3://nowhere/results").records())
    with pytest.raises(UserError, match="cannot open nosuch://bucket") as error:
        ResultStore("nosuch://bucket")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = ResultStore(bucket)
    with pytest.raises(UserError, match="cannot read s3://faces/some/results"):
        list(store.records("quick"))
