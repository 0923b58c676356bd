"""Stages: computed once, whole or not at all, whoever asks."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ppfr_bench.errors import UserError
from ppfr_bench.stages.store import StageStore, Writer


def _count(folder: Path) -> None:
    with (folder / "count").open("a") as file:
        file.write("x")


def test_computed_once_and_keyed_by_the_whole_spec(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "cache")

    def compute(writer: Writer) -> None:
        _count(tmp_path)
        writer.save("values", np.arange(3))

    for spec in ({"a": 1}, {"a": 1}, {"a": 1, "b": 0}):
        assert store.get("stage", spec, compute)["values"].tolist() == [0, 1, 2]
    assert (tmp_path / "count").read_text() == "xx"


def test_a_stage_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = StageStore(tmp_path)

    def broken(writer: Writer) -> None:
        writer.save("values", np.arange(3))
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        store.get("stage", {}, broken)
    assert not list(tmp_path.rglob("*.npy"))
    assert store.get("stage", {}, lambda writer: writer.save("values", np.ones(1)))["values"] == [1]


def _compute_slowly(root: Path, die: bool) -> None:
    def compute(writer: Writer) -> None:
        _count(root)
        writer.save("values", np.arange(3))
        if die:
            os.kill(os.getpid(), signal.SIGKILL)

    StageStore(root / "cache").get("stage", {}, compute)


def test_killed_half_way_the_next_process_finishes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for die in (True, False):
        process = context.Process(target=_compute_slowly, args=(tmp_path, die))
        process.start()
        process.join()
    assert (tmp_path / "count").read_text() == "xx"
    stage = StageStore(tmp_path / "cache").get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert stage["values"].tolist() == [0, 1, 2]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_who_comes_second_finds_what_the_first_has_published(tmp_path: Path) -> None:
    """Two processes that compute one stage at once end with one output, whole."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_compute_slowly, args=(tmp_path, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    stage = StageStore(tmp_path / "cache").get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert stage["values"].tolist() == [0, 1, 2]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_leftovers_of_killed_processes_are_cleared_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    """A process of another machine cannot be asked whether it lives, so what it has begun stays too."""
    store = StageStore(tmp_path)
    folder = store.get("stage", {}, three).folder
    shutil.rmtree(folder)
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    node = platform.node()
    owners = (f"{node}.{dead.pid}", f"{node}.{os.getppid()}", f"another_machine.{dead.pid}")
    begun = [folder.with_name(f"{folder.name}.{owner}.tmp") for owner in owners]
    for leftover in begun:
        leftover.mkdir()
        (leftover / "values.npy").write_bytes(b"half")
    assert store.get("stage", {}, three)["values"].tolist() == [0, 1, 2]
    assert [leftover.exists() for leftover in begun] == [False, True, True]


def three(writer: Writer) -> None:
    writer.save("values", np.arange(3))
    writer.save("others", np.ones(2))
    writer.meta["note"] = 1


def without(key: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        del meta[key]
        (folder / "meta.json").write_text(json.dumps(meta))

    return damage


def shortened(name: str, by: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-by])

    return damage


def written(content: str) -> Callable[[Path], int]:
    return lambda folder: (folder / "meta.json").write_text(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "an array is cut": shortened("values.npy", 5),
    "an array is empty": shortened("values.npy", 152),
    "an array is gone": lambda folder: (folder / "values.npy").unlink(),
    "all is gone": lambda folder: [path.unlink() for path in folder.iterdir()],
    "its notes are gone": lambda folder: (folder / "meta.json").unlink(),
    "its notes are cut": shortened("meta.json", 4),
    "its notes are empty": written(""),
    "its notes are no text": lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe"),
    "its notes are no JSON": written("values: 3"),
    "its notes are a list": written("[1]"),
    "its notes are a number": written("1"),
    "its files are a list": written('{"seconds": 1, "spec": {}, "peak_memory_mib": 1, "files": ["values"]}'),
    "its seconds are a word": written('{"seconds": "long", "spec": {}, "peak_memory_mib": 1, "files": {}}'),
    **{f"its notes lack {key}": without(key) for key in ("files", "seconds", "spec", "peak_memory_mib")},
}


@pytest.mark.parametrize("how", DAMAGES)
def test_what_is_damaged_is_computed_anew(how: str, tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    first = store.get("stage", {}, three)
    DAMAGES[how](first.folder)
    assert store.find("stage", first.key) is None
    again = store.get("stage", {}, three)
    assert again["values"].tolist() == [0, 1, 2] and again.meta["note"] == 1 and len(again) == 2
    assert not list(tmp_path.rglob("*.tmp"))
    assert store.find("stage", first.key) is not None


# Behind a URL --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where machines share what they compute."""
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}/shared"


def archives(url: str) -> dict[str, bytes]:
    """All that lies at a URL."""
    system, path = fsspec.core.url_to_fs(url)
    return {name: system.cat_file(name) for name in system.find(path)}


def test_behind_a_url_another_machine_reads_what_one_has_computed(url: str, tmp_path: Path) -> None:
    one, two = (StageStore(tmp_path / name, url) for name in ("one", "two"))
    key = one.get("stage", {"a": 1}, three).key
    before = archives(url)
    assert [name.endswith(f"stage/{key}.zip") for name in before] == [True], "and nothing half-written"
    found = two.get("stage", {"a": 1}, lambda writer: pytest.fail("computed again"))
    assert found["values"].tolist() == [0, 1, 2] and found.meta["note"] == 1
    assert found.folder.is_relative_to(tmp_path / "two") and archives(url) == before
    assert two.find("stage", "0" * 64) is None
    assert not list(tmp_path.glob("*/**/*.tmp"))


def test_what_a_machine_has_read_once_it_keeps(url: str, tmp_path: Path) -> None:
    key = StageStore(tmp_path / "one", url).get("stage", {}, three).key
    two = StageStore(tmp_path / "two", url)
    assert two.find("stage", key) is not None
    system, path = fsspec.core.url_to_fs(url)
    system.rm(path, recursive=True)
    assert two.find("stage", key) is not None and StageStore(tmp_path / "three", url).find("stage", key) is None


@pytest.mark.parametrize("whole", [True, False])
def test_what_one_machine_alone_has_is_at_the_url_once_it_is_found_there(whole: bool, url: str, tmp_path: Path) -> None:
    """The copies of a machine are those of all URLs, and what lies at one may expire."""
    key = StageStore(tmp_path / "one", url).get("stage", {}, three).key
    before = archives(url)
    system, path = fsspec.core.url_to_fs(url)
    system.rm(path, recursive=True)
    assert StageStore(tmp_path / "one", url).find("stage", key, whole=whole) is not None
    assert archives(url).keys() == before.keys()
    found = StageStore(tmp_path / "two", url).get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert found["values"].tolist() == [0, 1, 2]


def test_a_damaged_copy_that_is_nowhere_else_is_not_given_to_others(url: str, tmp_path: Path) -> None:
    first = StageStore(tmp_path / "one", url).get("stage", {}, three)
    system, path = fsspec.core.url_to_fs(url)
    system.rm(path, recursive=True)
    (first.folder / "values.npy").write_bytes(b"x")
    assert StageStore(tmp_path / "one", url).find("stage", first.key, whole=False) is None
    assert StageStore(tmp_path / "two", url).find("stage", first.key) is None


def test_a_damaged_copy_is_read_again_and_not_computed(url: str, tmp_path: Path) -> None:
    store = StageStore(tmp_path / "one", url)
    first = store.get("stage", {}, three)
    for damage in DAMAGES.values():
        damage(first.folder)
        again = store.get("stage", {}, lambda writer: pytest.fail("computed again"))
        assert again["values"].tolist() == [0, 1, 2]
    assert not list(tmp_path.glob("one/**/*.tmp"))


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def flipped(content: bytes) -> bytes:
    """One byte of an array is another, which the archive's check sum tells."""
    at = content.index(b"NUMPY") + 140
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def method(content: bytes, number: int) -> bytes:
    """All files are said to be packed in another way."""
    changed = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = changed.find(mark)
        while start >= 0:
            changed[start + at] = number
            start = changed.find(mark, start + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:40], lambda content: content[:-30], lambda content: b"", lambda content: b"no archive",
        flipped, lambda content: method(content, 8), lambda content: method(content, 99),
        lambda content: packed(meta_json=b"{}"), lambda content: packed(values_npy=b"x"), lambda content: packed(),
    ],
    ids=["cut", "without its list", "empty", "none", "a byte", "packed otherwise", "packed in no way", "without arrays",
         "without notes", "with nothing"],
)  # fmt: skip
def test_a_damaged_archive_is_computed_anew_and_whole_for_all_others_then(
    damage: Callable[[bytes], bytes], url: str, tmp_path: Path
) -> None:
    key = StageStore(tmp_path / "one", url).get("stage", {}, three).key
    ((name, content),) = archives(url).items()
    system, _ = fsspec.core.url_to_fs(url)
    system.pipe_file(name, damage(content))
    two = StageStore(tmp_path / "two", url)
    assert two.find("stage", key) is None
    assert two.get("stage", {}, three)["values"].tolist() == [0, 1, 2]
    third = StageStore(tmp_path / "three", url)
    found = third.get("stage", {}, lambda writer: pytest.fail("computed again"))
    assert found["values"].tolist() == [0, 1, 2] and list(archives(url)) == [name]
    assert not list(tmp_path.glob("*/**/*.tmp"))


def test_an_archive_writes_nothing_beside_its_own_folder(url: str, tmp_path: Path) -> None:
    key = StageStore(tmp_path / "one", url).get("stage", {}, three).key
    ((name, content),) = archives(url).items()
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("../../outside.npy", b"x")
        archive.writestr("/tmp/outside.npy", b"x")
    system, _ = fsspec.core.url_to_fs(url)
    system.pipe_file(name, buffer.getvalue())
    found = StageStore(tmp_path / "two", url).find("stage", key)
    assert found is not None and not list(tmp_path.rglob("outside.npy"))


def test_a_url_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    store = StageStore(tmp_path / "here", f"file://{tmp_path}/file")
    with pytest.raises(UserError, match=r"cannot write file://.*\n.*credentials"):
        store.get("stage", {}, three)
    with pytest.raises(UserError, match=r"cannot open nosuch://bucket"):
        StageStore(tmp_path / "here", "nosuch://bucket").find("stage", "0" * 64)


def test_a_folder_that_cannot_be_written_is_explained(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    for store in (StageStore(tmp_path / "file", url), StageStore(tmp_path / "file")):
        with pytest.raises(
            UserError, match=r"cannot keep the stage 'stage' under .*file: Not a dir.*\n.*PPFR_BENCH_CACHE"
        ):
            store.get("stage", {}, three)


def test_no_room_is_said(tmp_path: Path) -> None:
    def full(writer: Writer) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device\n.*PPFR_BENCH_CACHE"):
        StageStore(tmp_path).get("stage", {}, full)
