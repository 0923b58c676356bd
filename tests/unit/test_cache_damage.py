"""What a disk, a kill or a stranger does to a cache: it is noticed, said and computed anew, with the same answers."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cache import ColourGrid, noise, same, squares

from ppfr_bench import assets, integrity, registry
from ppfr_bench.api import to_float
from ppfr_bench.contracts.weights import check_weights
from ppfr_bench.datasets import synthetic
from ppfr_bench.datasets.synthetic import Synthetic, SyntheticConfig
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers.store import EmbeddingStore
from ppfr_bench.registry import add_plugin, build
from ppfr_bench.stages.store import StageStore

Damage = Callable[[Path], object]


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def in_notes(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        change(meta)
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    return damage


def put(name: str, array: np.ndarray[Any, Any]) -> Damage:
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


def instead(make: Callable[[Path], object], *names: str) -> Damage:
    """Something else where a file, or the folder itself, was."""

    def damage(folder: Path) -> None:
        for place in [folder / name for name in names] or [folder]:
            integrity.remove(place)
            make(place)

    return damage


def swap(folder: Path) -> None:
    """Two whole outputs change places."""
    other = StageStore(folder.parents[3]).get("squares", {"other": 1}, squares).folder
    aside = folder.with_name("aside")
    folder.rename(aside)
    other.rename(folder)
    aside.rename(other)


def swap_arrays(folder: Path) -> None:
    (folder / "small.npy").rename(folder / "x.npy")
    (folder / "large.npy").rename(folder / "small.npy")
    (folder / "x.npy").rename(folder / "large.npy")


def dangling(place: Path) -> None:
    place.symlink_to(place.parent / "nowhere")


def in_a_circle(place: Path) -> None:
    place.symlink_to(place)


def unreadable(*names: str) -> Damage:
    return lambda folder: [(folder / name).chmod(0) for name in names] if names else folder.chmod(0)


STAGES: dict[str, Damage] = {
    "a bit of an array is another": lambda folder: flip(folder / "large.npy", 1_000_000),
    "a bit of a small array": lambda folder: flip(folder / "small.npy", -1, 6),
    "a bit of an array's header": lambda folder: flip(folder / "small.npy", 40, 3),
    "a bit of the notes": lambda folder: flip(folder / "meta.json", 30),
    "a number of the notes": in_notes(lambda meta: meta["note"].update(a=0.2)),
    "the seconds of the notes": in_notes(lambda meta: meta.update(seconds=7.0)),
    "an array is cut": lambda folder: os.truncate(folder / "large.npy", 5000),
    "an array is longer": lambda folder: os.truncate(folder / "small.npy", 5000),
    "an array is empty": lambda folder: os.truncate(folder / "small.npy", 0),
    "an array of zeros": lambda folder: (folder / "large.npy").write_bytes(
        bytes((folder / "large.npy").stat().st_size)
    ),
    "an array is gone": lambda folder: (folder / "small.npy").unlink(),
    "another type": put("small.npy", np.arange(6).reshape(2, 3)),
    "another shape": put("small.npy", np.arange(6, dtype=np.float32).reshape(3, 2) ** 2),
    "a pickle": put("small.npy", np.array([print], dtype=object)),
    "two arrays swapped": swap_arrays,
    "two stages swapped": swap,
    "the notes are empty": lambda folder: os.truncate(folder / "meta.json", 0),
    "the notes are gone": lambda folder: (folder / "meta.json").unlink(),
    "the notes are junk": lambda folder: (folder / "meta.json").write_bytes(os.urandom(200)),
    "the notes nest too deeply": lambda folder: (folder / "meta.json").write_text("[" * 100_000),
    "the notes are those of the former version": in_notes(
        lambda meta: [meta.pop(name) for name in ("kind", "key", "sha256")]
    ),
    "the notes list no array": in_notes(lambda meta: meta.update(files={})),
    "the notes list one outside": in_notes(lambda meta: meta["files"].update({"../../other": "0" * 64})),
    "the notes of another stage": in_notes(lambda meta: meta.update(key="0" * 64)),
    "the hash of the notes is a number": in_notes(lambda meta: meta.update(sha256=3)),
    "a folder in place of an array": instead(Path.mkdir, "small.npy"),
    "a folder in place of the notes": instead(Path.mkdir, "meta.json"),
    "a file in place of the folder": instead(lambda place: place.write_text("x")),
    "an empty folder": instead(Path.mkdir),
    "a link to nowhere in place of an array": instead(dangling, "small.npy"),
    "a link to nowhere in place of the folder": instead(dangling),
    "a link in a circle": instead(in_a_circle),
    "a file in place of the folder above": lambda folder: instead(lambda place: place.write_text("x"))(folder.parent),
    "a link to nowhere above": lambda folder: instead(dangling)(folder.parents[1]),
    "a pipe in place of the notes": instead(os.mkfifo, "meta.json"),
    "an array that may not be read": unreadable("small.npy"),
    "notes that may not be read": unreadable("meta.json"),
    "a folder that may not be read": unreadable(),
}
MAY_NOT_READ = {name for name in STAGES if "may not be read" in name}


@pytest.mark.parametrize("how", STAGES)
def test_a_damaged_stage_is_said_and_computed_anew(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if how in MAY_NOT_READ and os.geteuid() == 0:
        pytest.skip("root reads what it likes; the next test is another user")
    key = StageStore(tmp_path).get("squares", {}, squares).key
    folder = StageStore(tmp_path)._folder("squares", key)
    STAGES[how](folder)
    with caplog.at_level(logging.WARNING):
        store = StageStore(tmp_path)
        assert store.find("squares", key) is None or "above" in how
        assert same(store.get("squares", {}, squares))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text and "computed anew" in caplog.text
    assert same(StageStore(tmp_path).get("squares", {}, lambda writer: pytest.fail("computed again")))
    left = {path.name for path in (tmp_path / "4" / "squares").rglob("*") if ".tmp" in path.name}
    assert not left


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("how", sorted(MAY_NOT_READ))
def test_what_a_user_may_not_read_is_computed_anew(how: str, tmp_path: Path) -> None:
    for place in (tmp_path, *tmp_path.parents):
        if place.owner() == "root" and place.is_relative_to(Path("/tmp")) and place != Path("/tmp"):
            place.chmod(0o755)
    tmp_path.chmod(0o777)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            found = StageStore(tmp_path / "cache").get("squares", {}, squares)
            STAGES[how](found.folder)
            code = 0 if same(StageStore(tmp_path / "cache").get("squares", {}, squares)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_bit_counts(tmp_path: Path) -> None:
    """No flipped bit of any file of an output goes unnoticed, or changes an answer."""
    draws, store = random.Random(0), StageStore(tmp_path)
    for _ in range(60):
        folder = store.get("squares", {}, squares).folder
        path = draws.choice(sorted(folder.iterdir()))
        flip(path, draws.randrange(path.stat().st_size), draws.randrange(8))
        assert same(StageStore(tmp_path).get("squares", {}, squares))


def test_what_is_damaged_between_two_uses_is_never_read(tmp_path: Path) -> None:
    found = StageStore(tmp_path).get("squares", {}, squares)
    assert same(found)
    flip(found.folder / "small.npy", -1)
    with pytest.raises(UserError, match=r"was damaged meanwhile.*\n.*again"):
        found["small"]


def test_an_array_is_read_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    true = integrity.file_sha256
    monkeypatch.setattr(integrity, "file_sha256", lambda path: read.append(path) or true(path))
    for _ in range(3):
        assert same(StageStore(tmp_path).get("squares", {}, squares))
    assert len(read) == 2


def test_notes_alone_are_had_without_reading_the_arrays(tmp_path: Path) -> None:
    found = StageStore(tmp_path).get("squares", {}, squares)
    flip(found.folder / "large.npy", -1)
    noted = StageStore(tmp_path).find("squares", found.key, whole=False)
    assert noted is not None and noted.seconds == found.seconds
    with pytest.raises(UserError, match="damaged meanwhile"):
        noted["large"]


# A full disk ---------------------------------------------------------------------------------------------------------

ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
sys.path.insert(0, sys.argv[2])
import numpy as np
from made_cache import ColourGrid, noise, same, squares
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers.store import EmbeddingStore
from ppfr_bench.stages.store import StageStore

def refused(work):
    try:
        work()
    except UserError as error:
        print("refused:", str(error).replace(chr(10), " | "))
    else:
        sys.exit("a full disk was not noticed")

stages, embeddings = StageStore(folder), EmbeddingStore(folder / "e.sqlite")
kept = stages.get("squares", {}, squares).folder
embeddings.embed("grid", ColourGrid(), noise(64))
before = (folder / "e.sqlite").read_bytes()
filler = folder / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
def mapped(writer):
    writer.open("large", (1000, 1000), np.float64)[:] = 1
def saved(writer):
    writer.save("large", np.zeros((1000, 1000)))
refused(lambda: stages.get("mapped", {}, mapped))
refused(lambda: stages.get("saved", {}, saved))
refused(lambda: embeddings.embed("grid", ColourGrid(), noise(640, seed=1)))
assert same(StageStore(folder).find("squares", kept.name)), "the shared cache is as it was"
assert not [path for path in folder.rglob("*.tmp")], "nothing half-written is left"
filler.unlink()
recognizer = ColourGrid()
embeddings.embed("grid", recognizer, noise(64))
assert recognizer.asked == [], "the embeddings are as they were"
embeddings.embed("grid", ColourGrid(), noise(640, seed=1))
print("went on")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no mount of one's own without unshare")
def test_a_full_disk_is_an_error_and_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    apart = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount of one's own can be made here")
    here = str(Path(__file__).parents[1] / "support")
    command = [*apart, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path / "disk"), here]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[-1] == "went on"
    assert all("PPFR_BENCH_CACHE" in line for line in lines[:3])
    assert all("No space left on device" in line for line in lines[:2]) and "full" in lines[2]


# Embeddings ----------------------------------------------------------------------------------------------------------


def in_table(statement: str) -> Damage:
    def damage(path: Path) -> None:
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(statement)
        connection.close()

    return damage


def replaced_by(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


EMBEDDINGS: dict[str, Damage] = {
    "a vector is another": in_table("UPDATE embedding SET vector = zeroblob(192) WHERE rowid % 7 = 0"),
    "a vector is text": in_table("UPDATE embedding SET vector = 'x' WHERE rowid % 7 = 0"),
    "a vector is a number": in_table("UPDATE embedding SET vector = 7 WHERE rowid % 7 = 0"),
    "a vector is cut": in_table("UPDATE embedding SET vector = x'0102' WHERE rowid % 7 = 0"),
    "vectors of other images": in_table(
        "UPDATE embedding SET (vector, checksum) = (SELECT vector, checksum FROM embedding WHERE rowid = 3)"
    ),
    "a checksum is another": in_table("UPDATE embedding SET checksum = x'00'"),
    "rows of another recognizer": in_table("UPDATE embedding SET recognizer = 'other', version = 2"),
    "a table of the former version": in_table("ALTER TABLE embedding DROP COLUMN checksum"),
    "a table of another use": in_table("ALTER TABLE embedding RENAME COLUMN vector TO other"),
    "no table": in_table("DROP TABLE embedding"),
    "the file is cut": lambda path: os.truncate(path, 9000),
    "the file is cut in its header": lambda path: os.truncate(path, 50),
    "the file is empty": replaced_by(b""),
    "the file is gone": Path.unlink,
    "the file is junk": replaced_by(bytes(range(256)) * 200),
    "the file is zeros": replaced_by(bytes(50_000)),
    "the middle is overwritten": lambda path: path.write_bytes(path.read_bytes()[:8192].ljust(70_000, b"\xff")),
    "the log is junk": lambda path: path.with_name(path.name + "-wal").write_bytes(bytes(range(256)) * 200),
    "a folder in its place": instead(Path.mkdir),
    "a link to nowhere in its place": lambda path: (path.unlink(), path.symlink_to("/nowhere/at/all")),
    "a header of a later sqlite": lambda path: flip(path, 19, 6),
}


@pytest.mark.parametrize("how", EMBEDDINGS)
def test_damaged_embeddings_are_computed_anew(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "e.sqlite"
    expected = EmbeddingStore(path).embed("grid", ColourGrid(), noise(100))
    EMBEDDINGS[how](path)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(EmbeddingStore(path).embed("grid", ColourGrid(), noise(100)), expected)
    absent = ("rows of another recognizer", "no table", "the file is empty", "the file is gone", "the log is junk")
    assert ("damaged" in caplog.text) is (how not in absent)
    recognizer = ColourGrid()
    np.testing.assert_array_equal(EmbeddingStore(path).embed("grid", recognizer, noise(100)), expected)
    assert recognizer.asked == []


def test_no_flipped_bit_of_the_embeddings_changes_an_answer(tmp_path: Path) -> None:
    path, draws = tmp_path / "e.sqlite", random.Random(0)
    images = noise(80)
    expected = EmbeddingStore(path).embed("grid", ColourGrid(), images)
    whole = path.read_bytes()
    places = [*range(100), *(draws.randrange(len(whole)) for _ in range(150))]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << draws.randrange(8)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(changed)
        np.testing.assert_array_equal(EmbeddingStore(path).embed("grid", ColourGrid(), images), expected)


# Data sets and weights -----------------------------------------------------------------------------------------------

DATA: dict[str, Damage] = {
    "a pixel": lambda path: flip(path, 5000, 7),
    "the file is cut": lambda path: os.truncate(path, 5000),
    "the file is empty": lambda path: os.truncate(path, 0),
    "another shape": lambda path: np.save(path, np.zeros((4, 3, 112, 112), np.uint8)),
    "no hash": lambda path: path.with_suffix(".sha256").unlink(),
    "a hash of something else": lambda path: path.with_suffix(".sha256").write_text("0" * 64),
    "a hash that is no text": lambda path: path.with_suffix(".sha256").write_bytes(b"\xff\xfe"),
    "a folder in its place": instead(Path.mkdir),
    "a link to nowhere": instead(dangling),
    "a folder in place of the hash": lambda path: instead(Path.mkdir)(path.with_suffix(".sha256")),
}


@pytest.mark.parametrize("how", DATA)
def test_a_damaged_data_set_is_made_anew(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Faces are drawn from a stand-in of the generator, which takes minutes; what keeps them is the real thing."""
    made: list[str] = []

    def draw(split: str, seed: int, variation: float, identities: int, images: int, checked: int) -> Any:
        made.append(split)
        return np.random.default_rng(seed).integers(0, 256, (identities * images, 3, 112, 112), np.uint8)

    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(synthetic, "_make", draw)
    config = SyntheticConfig(evaluation_identities=4, evaluation_images=2, folds=2)
    expected = Synthetic(config).evaluation.load(range(8))
    (path,) = (tmp_path / "datasets" / "synthetic").glob("evaluation-*.npy")
    DATA[how](path)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(Synthetic(config).evaluation.load(range(8)), expected)
    assert made == ["evaluation"] * 2 and "made anew" in caplog.text
    np.testing.assert_array_equal(Synthetic(config).evaluation.load(range(8)), expected)
    assert len(made) == 2


PLUGIN = """
from pathlib import Path
import torch
from safetensors.torch import load_file
from ppfr_bench.api import Defense, DefenseCard

class Weighted(Defense):
    version = 1
    card = DefenseCard(title="w", family="f", reference="r", licence="MIT", weights_sha256="{sha256}")
    def protect(self, images, generator):
        return images * load_file(Path(__file__).with_suffix(".safetensors"))["scale"]

DEFENSE = Weighted
"""


@pytest.mark.parametrize("how", ["right", "another file", "no file", "damaged"])
def test_weights_are_those_of_the_card(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    from ppfr_bench.stages.release import RejectedError, release

    monkeypatch.setattr(registry, "_added", {})
    name = f"weighted_{how.replace(' ', '_')}"
    weights = tmp_path / f"{name}.safetensors"
    save_file({"scale": torch.tensor([0.25])}, weights)
    sha256 = integrity.file_sha256(weights)
    (tmp_path / f"{name}.py").write_text(PLUGIN.replace("{sha256}", sha256), encoding="utf-8")
    {
        "right": lambda: None,
        "another file": lambda: save_file({"scale": torch.tensor([0.5])}, weights),
        "no file": weights.unlink,
        "damaged": lambda: flip(weights, -1),
    }[how]()
    add_plugin(tmp_path / f"{name}.py")
    defense = build("defense", name, {})
    if how == "right":
        assert release(defense, noise(2), torch.Generator()).max() <= 64
        return
    with pytest.raises(RejectedError, match=rf"weights_sha256 {sha256[:12]}.*{name}\.\*"):
        release(defense, noise(2), torch.Generator())


def test_the_weights_that_ship_are_those_of_their_card() -> None:
    assert check_weights(build("defense", "stochastic_anonymizer", {})) is None


@pytest.mark.assets
def test_a_damaged_asset_is_fetched_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "assets" / "dlib_landmarks5" / Path(assets.MANIFEST["dlib_landmarks5"].member).name
    true = assets.asset_path("dlib_landmarks5").read_bytes()
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))
    fetched: list[str] = []

    def again(name: str) -> Path:
        fetched.append(name)
        path.write_bytes(true)
        return path

    monkeypatch.setattr(assets, "fetch", again)
    path.parent.mkdir(parents=True)
    path.write_bytes(true[:-1] + b"x")
    for _ in range(3):
        assert assets.asset_path("dlib_landmarks5").read_bytes() == true
    assert fetched == ["dlib_landmarks5"]


def test_the_grid_of_these_tests_depends_on_the_image() -> None:
    first, second = ColourGrid().embed(to_float(noise(2)))
    assert not np.allclose(first, second)
