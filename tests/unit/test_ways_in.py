"""One file, every way in: the same pixels come out of each, or each refuses it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from made_pictures import FORMATS, LOSSLESS, MODES, TURNED, Picture
from PIL import Image, ImageOps

from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard
from ppfr_bench.datasets import from_sequence, load_dataset
from ppfr_bench.datasets.opening import open_dataset
from ppfr_bench.datasets.preparation import Options, prepare
from ppfr_bench.errors import UserError
from ppfr_bench.images import decode, from_pillow
from ppfr_bench.protection.folder import protect_folder
from ppfr_bench.protection.picture import protect_image, protect_photograph
from ppfr_bench.protection.precomputed import Store, export, name_of, take_back
from ppfr_bench.suites import load_suite

OTHERS = np.random.default_rng(7).integers(0, 256, (24, 112, 112, 3), dtype=np.uint8)  # 8 people, 3 photos each
PEOPLE = [i // 3 for i in range(24)]
SMALL = {"folds": 2}


class Negative(Defense):
    """255 - x: what went in can be read off what came out."""

    version = 1
    card = DefenseCard(title="negative", family="test", reference="-", licence="MIT")
    Config = Config

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return 1 - images


def png(pixels: ByteArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def negative_of(content: bytes) -> ByteArray:
    return 255 - np.asarray(Image.open(io.BytesIO(content)))


ENCODED = [png(pixels) for pixels in OTHERS]


def people_in(folder: Path, content: bytes, suffix: str) -> Path:
    """ROOT/PERSON/photo of the others, and the picture as the first photo of the first person."""
    for i, (encoded, person) in enumerate(zip(ENCODED, PEOPLE, strict=True)):
        path = folder / f"p{person}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    (folder / "p0" / "0.png").unlink()
    (folder / "p0" / f"0{suffix}").write_bytes(content)
    return folder


def loaded(dataset: object, name: str) -> ByteArray:
    """The face of that name, (112, 112, 3)."""
    for faces in (dataset.evaluation, dataset.attacker):  # type: ignore[attr-defined]
        for row, other in enumerate(faces.names):
            if other.rpartition(".")[0] == name or other == name:
                return np.asarray(faces.load([row])[0].transpose(1, 2, 0))
    raise AssertionError(f"{name} is lost")


def by_protect_folder(content: bytes, suffix: str, folder: Path) -> ByteArray:
    (folder / "in").mkdir()
    (folder / "in" / f"a{suffix}").write_bytes(content)
    assert protect_folder(Negative(Config()), folder / "in", folder / "out").images == 1
    return negative_of((folder / "out" / "a.png").read_bytes())


def by_protect_stream(content: bytes, suffix: str, folder: Path) -> ByteArray:
    if decode(content).pixels.shape != (112, 112, 3):
        raise UserError("not aligned: its face is looked for, which is no way in for aligned faces")
    return negative_of(protect_image(Negative(Config()), content).content)


def by_protect_photograph(content: bytes, suffix: str, folder: Path) -> ByteArray:
    if decode(content).pixels.shape != (112, 112, 3):
        raise UserError("as for the stream")
    (folder / f"a{suffix}").write_bytes(content)
    protect_photograph(Negative(Config()), folder / f"a{suffix}", folder / "out.png")
    return negative_of((folder / "out.png").read_bytes())


def by_prepare(content: bytes, suffix: str, folder: Path) -> ByteArray:
    report = prepare("folder", people_in(folder / "in", content, suffix), folder / "out", Options(aligned=True))
    if report["dropped"]:
        raise UserError(report["dropped"][0]["why"])
    return loaded(load_dataset("folder", {"root": str(folder / "out" / "images"), **SMALL}), "p0/0")


def by_folder(content: bytes, suffix: str, folder: Path) -> ByteArray:
    root = str(people_in(folder / "in", content, suffix))
    return loaded(load_dataset("folder", {"root": root, **SMALL}), "p0/0")


def by_sequence(content: bytes, suffix: str, folder: Path) -> ByteArray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a broken index of pictures, which costs no pixel of the first
            image = Image.open(io.BytesIO(content))
    except OSError as error:
        raise UserError("Pillow does not open it, so it never gets here") from error
    return loaded(from_sequence([image, *OTHERS[1:]], PEOPLE, **SMALL), "image/0")


def by_precomputed(content: bytes, suffix: str, folder: Path) -> ByteArray:
    data = from_sequence(OTHERS, PEOPLE, **SMALL)
    export(data, folder)
    (folder / "protected").mkdir()
    for path in (folder / "clear").iterdir():
        (folder / "protected" / path.name).write_bytes(path.read_bytes())
    first = OTHERS[0].transpose(2, 0, 1)
    (folder / "protected" / f"{name_of(first)}.png").unlink()
    (folder / "protected" / f"{name_of(first)}{suffix}").write_bytes(content)
    return np.asarray(Store(take_back(folder))[first[None]][0].transpose(1, 2, 0))


def by_evaluate(content: bytes, suffix: str, folder: Path) -> ByteArray:
    """How evaluate and run open the data set of a suite."""
    root = people_in(folder / "in", content, suffix)
    suite = load_suite("quick", (f"dataset.root={root}", "dataset.folds=2"), dataset="folder")
    return loaded(open_dataset(suite.dataset), "p0/0")


WAYS: list[Callable[[bytes, str, Path], ByteArray]] = [
    by_protect_folder, by_protect_stream, by_protect_photograph, by_prepare, by_folder, by_sequence, by_precomputed,
    by_evaluate,
]  # fmt: skip


def outcome(way: Callable[[bytes, str, Path], ByteArray], content: bytes, suffix: str) -> ByteArray | None:
    with TemporaryDirectory() as folder:
        try:
            return way(content, suffix, Path(folder))
        except UserError:
            return None


def written(picture: Picture) -> bytes:
    try:
        return picture.encoded()
    except (OSError, ValueError, KeyError, TypeError):
        assume(False)
        raise


pictures = st.builds(
    Picture,
    kind=st.sampled_from(sorted(FORMATS)),
    mode=st.sampled_from(MODES),
    size=st.sampled_from([(112, 112)] * 6 + [(112, 96), (96, 112), (64, 64), (1, 1), (113, 113)]),
    orientation=st.integers(1, 8),
    hole=st.booleans(),
    copies=st.sampled_from([1, 1, 1, 2]),
    seed=st.integers(0, 5),
)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    pytest.importorskip("pillow_heif").register_heif_opener()


@given(pictures)
@example(Picture("PNG", "I;16"))
@example(Picture("PNG", "RGBA", hole=True))
@example(Picture("PNG", "RGBA"))
@example(Picture("BMP", "RGBA", hole=True))
@example(Picture("GIF", "RGBA", hole=True))
@example(Picture("GIF", "P", copies=2))
@example(Picture("MPO", "RGB", copies=2, orientation=6))
@example(Picture("TIFF", "LAB"))
@example(Picture("TIFF", "I;16B", orientation=5))
@example(Picture("JPEG", "CMYK", orientation=8))
@example(Picture("PPM", "I"))
@example(Picture("HEIF", "RGB"))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_way_in_gives_the_same_pixels_or_refuses(picture: Picture) -> None:
    content = written(picture)
    found = {way.__name__: outcome(way, content, picture.suffix) for way in WAYS}
    first = found["by_folder"]
    for name, pixels in found.items():
        assert (pixels is None) == (first is None), f"{name} {'refuses' if pixels is None else 'takes'} {picture}"
        assert first is None or np.array_equal(pixels, first), f"{name} reads {picture} otherwise"
    if picture.size != (112, 112):
        assert first is None, "an image that is not aligned was taken for one that is"


def _expected(picture: Picture) -> ByteArray | None:
    """What the picture shows, worked out from what was drawn; None where the file need not hold it exactly."""
    if picture.kind not in LOSSLESS or picture.mode in ("LAB", "I", "F", "YCbCr", "HSV", "PA", "RGBa", "La"):
        return None
    image = picture.image()
    if picture.mode.startswith("I;16"):
        deep = np.frombuffer(image.tobytes(), ">u2" if picture.mode == "I;16B" else "<u2").reshape(image.size[::-1])
        image = Image.fromarray(np.round(deep / 257).astype(np.uint8))
    if picture.orientation != 1 and picture.kind in TURNED:
        exif = image.getexif()
        exif[0x0112] = picture.orientation
        image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_mode_of_a_format(kind: str) -> None:
    """Alike from bytes and from what Pillow opened; right where that can be told; never what transparency hides."""
    taken = 0
    for mode in MODES:
        for orientation in (1, 3, 6):
            for hole in (False, True):
                picture = Picture(kind, mode, (24, 16), orientation, hole)
                try:
                    content = picture.encoded()
                except (OSError, ValueError, KeyError, TypeError):
                    continue
                try:
                    pixels = decode(content).pixels
                except UserError:
                    pixels = None
                if kind in FORMATS and pixels is not None:
                    assert np.array_equal(from_pillow(Image.open(io.BytesIO(content))), pixels), picture
                    taken += 1
                if pixels is not None and hole and mode in ("RGBA", "LA", "PA", "RGBa", "La"):
                    kept = Image.open(io.BytesIO(content)).mode
                    assert kept in ("RGB", "L", "P") and kind not in ("BMP", "DIB"), f"{picture} lets out what it hides"
                expected = _expected(picture)
                if pixels is not None and expected is not None:
                    assert np.array_equal(pixels, expected), picture
    if kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "HEIF", "MPO"):
        assert taken, "not one was taken"
