"""The store of embeddings: nothing embedded twice, and kills, damage and neighbours survived."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_cache import ColourGrid, noise

from ppfr_bench.api import ByteArray, Embedder, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers.store import CachedEmbedder, EmbeddingStore


def test_each_distinct_image_is_embedded_once(tmp_path: Path) -> None:
    recognizer, store, images = ColourGrid(), EmbeddingStore(tmp_path / "deep" / "e.sqlite"), noise(5)
    order = [0, 1, 1, 4, 2, 3, 0]
    embedded = store.embed("grid", recognizer, images[order])
    direct = ColourGrid().embed(to_float(images)).numpy().astype(np.float64)
    assert embedded.dtype == np.float64
    np.testing.assert_array_equal(embedded, direct[order])
    assert recognizer.asked == [5]
    again = EmbeddingStore(tmp_path / "deep" / "e.sqlite")
    np.testing.assert_array_equal(again.embed("grid", recognizer, images), direct)
    assert recognizer.asked == [5] and again.usage["grid"].embedded == 0 and again.usage["grid"].requested == 5
    usage = store.usage["grid"]
    assert (usage.requested, usage.embedded) == (7, 5) and usage.seconds > 0


def test_name_and_version_are_part_of_the_key(tmp_path: Path) -> None:
    class Newer(ColourGrid):
        version = 2

    store, images = EmbeddingStore(tmp_path / "e.sqlite"), noise(3)
    store.embed("grid", ColourGrid(), images)
    newer, other = Newer(), ColourGrid()
    store.embed("grid", newer, images)
    store.embed("other", other, images)
    assert newer.asked == [3] and other.asked == [3]


def test_batches_stream_through_and_keep_their_order(tmp_path: Path) -> None:
    images, live, most = noise(300), 0, 0

    class Batch(np.ndarray):  # counts how many batches are alive
        def __del__(self) -> None:
            nonlocal live
            live -= self.base is None

    def batches() -> Iterator[ByteArray]:
        nonlocal live, most
        for start in range(0, 300, 30):
            batch = np.ndarray.__new__(Batch, (30, 3, 112, 112), np.uint8)
            batch[:] = images[start : start + 30]
            live += 1
            most = max(most, live)
            yield batch

    recognizer = ColourGrid()
    embedded = EmbeddingStore(tmp_path / "e.sqlite").embed("grid", recognizer, batches())
    np.testing.assert_array_equal(embedded, ColourGrid().embed(to_float(images)).numpy().astype(np.float64))
    assert most <= 2 and sum(recognizer.asked) == 300
    whole = ColourGrid()
    EmbeddingStore(tmp_path / "f.sqlite").embed("grid", whole, images)
    assert max(whole.asked) <= 64 and sum(whole.asked) == 300


def test_no_images_and_no_batches_give_no_rows(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e.sqlite")
    assert store.embed("grid", ColourGrid(), noise(0)).shape == (0, 48)
    assert store.embed("grid", ColourGrid(), iter([])).shape == (0, 48)


@pytest.mark.parametrize("images", [noise(1).astype(np.float32), noise(1)[0], noise(1)[:, :, :100]])
def test_store_refuses_other_images(tmp_path: Path, images: ByteArray) -> None:
    with pytest.raises(UserError, match="expected uint8 images"):
        EmbeddingStore(tmp_path / "e.sqlite").embed("grid", ColourGrid(), images)


@pytest.mark.parametrize("bad", ["nan", "shape"])
def test_a_bad_answer_is_refused_and_not_kept(tmp_path: Path, bad: str) -> None:
    class Broken(ColourGrid):
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            good = super().embed(images)
            return good * float("nan") if bad == "nan" else good[:, :47]

    store = EmbeddingStore(tmp_path / "e.sqlite")
    with pytest.raises(UserError, match="expected finite embeddings"):
        store.embed("grid", Broken(), noise(2))
    sound = ColourGrid()
    store.embed("grid", sound, noise(2))
    assert sound.asked == [2]


def fill(path: Path) -> None:
    EmbeddingStore(path).embed("grid", ColourGrid(), noise(200))


def damage_text(path: Path) -> None:
    path.write_text("not a database, but longer than the header of one would be: " * 20)


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def damage_columns(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE embedding (something TEXT)")
    connection.close()


@pytest.mark.parametrize("damage", [damage_text, damage_middle, damage_truncated, damage_columns])
def test_a_damaged_file_is_replaced_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "e.sqlite"
    fill(path)
    damage(path)
    recognizer = ColourGrid()
    with caplog.at_level(logging.WARNING):
        embedded = EmbeddingStore(path).embed("grid", recognizer, noise(200))
    np.testing.assert_array_equal(embedded, ColourGrid().embed(to_float(noise(200))).numpy().astype(np.float64))
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "damaged" in caplog.text
    after = ColourGrid()
    EmbeddingStore(path).embed("grid", after, noise(200))
    assert after.asked == []


def test_a_row_of_the_wrong_length_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    expected = EmbeddingStore(path).embed("grid", ColourGrid(), noise(3))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE embedding SET vector = x'0102' WHERE rowid = 2")
    connection.close()
    recognizer = ColourGrid()
    np.testing.assert_array_equal(EmbeddingStore(path).embed("grid", recognizer, noise(3)), expected)
    assert recognizer.asked == [1]


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="PPFR_BENCH_CACHE"):
        EmbeddingStore(tmp_path / "file" / "e.sqlite").embed("grid", ColourGrid(), noise(1))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_cache import ColourGrid, noise
from ppfr_bench.recognizers.store import EmbeddingStore

class Announced(ColourGrid):
    def embed(self, images):
        print(len(images), flush=True)
        if len(self.asked) == int(sys.argv[3]):
            sys.stdin.read()
        return super().embed(images)

EmbeddingStore(Path(sys.argv[2])).embed("grid", Announced(), noise(512))
"""


def start(path: Path, halt: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[1] / "support"), str(path), str(halt)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_kill_loses_the_chunk_at_hand_and_no_more(tmp_path: Path) -> None:
    with start(tmp_path / "e.sqlite", halt=5) as process:
        assert process.stdout is not None
        begun = [int(process.stdout.readline()) for _ in range(6)]  # the sixth has begun: five are committed
        process.kill()
    assert sum(begun) == 6 * 64
    recognizer = ColourGrid()
    embedded = EmbeddingStore(tmp_path / "e.sqlite").embed("grid", recognizer, noise(512))
    assert sum(recognizer.asked) == 512 - 5 * 64
    np.testing.assert_array_equal(embedded, ColourGrid().embed(to_float(noise(512))).numpy().astype(np.float64))


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    processes = [start(path, halt=-1) for _ in range(2)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    recognizer = ColourGrid()
    embedded = EmbeddingStore(path).embed("grid", recognizer, noise(512))
    assert recognizer.asked == []
    np.testing.assert_array_equal(embedded, ColourGrid().embed(to_float(noise(512))).numpy().astype(np.float64))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM embedding").fetchone() == (512,)
    connection.close()


def test_cached_embedder_is_what_an_attacker_is_handed(tmp_path: Path) -> None:
    recognizer = ColourGrid()
    embedder: Embedder = CachedEmbedder("grid", recognizer, EmbeddingStore(tmp_path / "e.sqlite"))
    assert isinstance(embedder, CachedEmbedder) and embedder.name == "grid" and embedder.recognizer is recognizer
    embedded = embedder.embed(noise(4))
    similarity = embedder.similarity_matrix(embedded, embedded[:2])
    assert similarity.shape == (4, 2)
    np.testing.assert_allclose(similarity[[0, 1], [0, 1]], 1, atol=1e-6)
    assert (similarity[[0, 1, 2], [1, 0, 0]] < 1 - 1e-6).all()
    assert embedder.usage.embedded == 4 and embedder.usage.seconds > 0
