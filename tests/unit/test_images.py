"""Pictures come in as they look, or with the reason why they do not come in."""

from __future__ import annotations

import builtins
import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_pictures import Picture
from PIL import Image, ImageCms, features

from ppfr_bench.images import UnreadableImage, decode, encode_png, from_pillow, looks_like_image, read


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits: int, colour: int, rows: list[bytes], *more: tuple[bytes, bytes], width: int = 4) -> bytes:
    """A PNG of those rows, written by hand: Pillow writes few of the depths that the format has."""
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    extra = b"".join(chunk(kind, data) for kind, data in more)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        png(8, 0, [bytes([0, 9, 200, 255])], (b"tRNS", struct.pack(">H", 9))),
        png(16, 0, [struct.pack(">4H", 0, 9, 51200, 65535)], (b"tRNS", struct.pack(">H", 9))),
        png(4, 0, [bytes([0x0F, 0x51])], (b"tRNS", struct.pack(">H", 5))),
        png(2, 0, [bytes([0b00011011])], (b"tRNS", struct.pack(">H", 2))),
        png(1, 0, [bytes([0b01010000])], (b"tRNS", struct.pack(">H", 1))),
        png(8, 2, [bytes(range(12))], (b"tRNS", struct.pack(">3H", 3, 4, 5))),
        png(16, 2, [struct.pack(">12H", *range(300, 312))], (b"tRNS", struct.pack(">3H", 303, 304, 305))),
        png(8, 3, [bytes([0, 1, 1, 0])], (b"PLTE", bytes(range(6))), (b"tRNS", bytes([255, 0]))),
        png(8, 3, [bytes([0, 1, 1, 0])], (b"PLTE", bytes(range(6))), (b"tRNS", bytes([255, 128]))),
        png(8, 4, [bytes([1, 255, 2, 255, 3, 0, 4, 255])]),
        png(16, 6, [struct.pack(">16H", *([9, 9, 9, 65535] * 3 + [9, 9, 9, 0]))]),
        saved(Picture(mode="RGBA", hole=True).image(), "WEBP"),
        saved(Picture(mode="RGBA", hole=True).image(), "WEBP", lossless=True),
        saved(Picture(mode="RGBA", hole=True).image(), "TIFF"),
        saved(Picture(mode="RGBA", hole=True).image(), "GIF"),
        saved(Picture(mode="RGBA", hole=True).image(), "BMP"),
    ],
)
def test_what_transparency_hides_does_not_come_in(content: bytes) -> None:
    with pytest.raises(UnreadableImage, match="transparent in places"):
        decode(content)
    with pytest.raises(UnreadableImage, match="transparent in places"):
        from_pillow(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        (png(8, 0, [bytes([0, 9, 200, 255])], (b"tRNS", struct.pack(">H", 77))), [0, 9, 200, 255]),
        (png(16, 0, [struct.pack(">4H", 0, 128, 129, 65535)]), [0, 0, 1, 255]),
        (png(16, 0, [struct.pack(">4H", 0, 128, 51272, 65535)], (b"tRNS", struct.pack(">H", 9))), [0, 0, 200, 255]),
        (png(8, 4, [bytes([1, 255, 2, 255, 3, 255, 4, 255])]), [1, 2, 3, 4]),
        (png(2, 0, [bytes([0b00011011])]), [0, 85, 170, 255]),
        (b"P5 4 1 65535\n" + struct.pack(">4H", 0, 128, 129, 65535), [0, 0, 1, 255]),
        (b"P5 4 1 255\n" + bytes([0, 1, 2, 255]), [0, 1, 2, 255]),
        (b"P2 4 1 15\n0 1 2 15\n", [0, 17, 34, 255]),
    ],
)
def test_grey_of_any_depth_is_scaled(content: bytes, pixels: list[int]) -> None:
    assert decode(content).pixels.tolist() == [[[value] * 3 for value in pixels]]
    assert from_pillow(Image.open(io.BytesIO(content))).tolist() == [[[value] * 3 for value in pixels]]


def white_is_zero(pixels: Any) -> bytes:
    """A grey TIFF whose tag 262 says that 0 is white; Pillow writes the tag but not the pixels so."""
    content = bytearray(saved(Image.fromarray(pixels), "TIFF"))
    directory = struct.unpack("<I", content[4:8])[0]
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", content, directory)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] == 262:
            struct.pack_into("<H", content, entry + 8, 0)
    return bytes(content)


@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_in_which_0_is_white_is_read_so(deep: bool) -> None:
    pixels = np.array([[0, 51, 204, 255]], np.uint16) * 257 if deep else np.array([[0, 51, 204, 255]], np.uint8)
    content = white_is_zero(pixels)
    assert decode(content).pixels[0, :, 0].tolist() == [255, 204, 51, 0]
    assert from_pillow(Image.open(io.BytesIO(content)))[0, :, 0].tolist() == [255, 204, 51, 0]


@pytest.mark.parametrize(("mode", "says"), [("I", "32-bit integers"), ("F", "32-bit floating point")])
def test_a_depth_without_a_white_is_refused_by_name(mode: str, says: str) -> None:
    image = Image.new(mode, (112, 112), 70)
    for refuse in (lambda: decode(saved(image, "TIFF")), lambda: from_pillow(image)):
        with pytest.raises(UnreadableImage, match=f"grey in {says}, expected 8 or 16 bits"):
            refuse()


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


def swapped_profile() -> bytes:
    """sRGB with its red and blue primaries exchanged: nobody can miss whether it is applied."""
    content = bytearray(profile("sRGB"))
    count = struct.unpack(">I", content[128:132])[0]
    places = {bytes(content[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(content).replace(b"s\0R\0G\0B", b"x\0x\0x\0x").replace(b"sRGB", b"xxxx")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_profile_is_applied(kind: str) -> None:
    image = Image.new("RGB", (16, 16), (250, 10, 20))
    plain = decode(saved(image, kind)).pixels[8, 8].astype(int)
    turned = decode(saved(image, kind, icc_profile=swapped_profile()))
    assert np.abs(turned.pixels[8, 8].astype(int) - plain[::-1]).max() < 12 and not turned.plain
    as_it_is = decode(saved(image, kind, icc_profile=profile("sRGB"))).pixels[8, 8]
    assert as_it_is.tolist() == plain.tolist()
    broken = decode(saved(image, kind, icc_profile=b"no profile at all" * 9)).pixels[8, 8]
    assert broken.tolist() == plain.tolist(), "a profile that cannot be read is ignored, as in every viewer"


def test_lab_and_cmyk_become_srgb() -> None:
    for mode in ("LAB", "CMYK"):
        picture = Picture("TIFF", mode, (32, 32))
        shown = np.asarray(Picture(size=(32, 32)).image()).astype(int)
        assert np.abs(decode(picture.encoded()).pixels - shown).mean() < 4, mode


def test_several_pictures_in_one_file() -> None:
    first = Picture("MPO", copies=3)
    assert np.abs(decode(first.encoded()).pixels.astype(int) - np.asarray(first.image())).mean() < 8
    for kind in ("GIF", "TIFF", "WEBP", "PNG", "AVIF"):
        frames = [Picture(seed=seed).image() for seed in (1, 2)]
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableImage, match="holds 2 pictures, expected one"):
            decode(content)


def test_too_large_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableImage, match="more than 89 million pixels"):
        decode(png(1, 0, [b"\0" * 1250] * 10000, width=10000))
    with pytest.raises(UnreadableImage, match="more than 89 million pixels"):
        decode(b"P6 20000 20000 255\n")
    monkeypatch.setattr("ppfr_bench.images._LARGEST", 100)
    (tmp_path / "a.png").write_bytes(Picture().encoded())
    for refuse in (lambda: decode(Picture().encoded()), lambda: read(tmp_path / "a.png")):
        with pytest.raises(UnreadableImage, match="larger than"):
            refuse()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF"])
def test_broken_files_never_raise_anything_else(kind: str) -> None:
    """Cut anywhere, and with any byte changed: pixels of the right shape, or UnreadableImage."""
    content, random = Picture(kind, size=(24, 16)).encoded(), np.random.default_rng(3)
    broken = [content[: int(cut)] for cut in random.integers(0, len(content), 40)]
    for _ in range(150):
        changed = bytearray(content)
        for at in random.integers(0, len(content), 3):
            changed[at] = random.integers(256)
        broken.append(bytes(changed))
    for one in broken:
        try:
            assert decode(one).pixels.ndim == 3
        except UnreadableImage:
            continue


def test_plain_is_what_any_decoder_shows() -> None:
    for kind in ("PNG", "BMP", "JPEG", "WEBP"):
        assert decode(Picture(kind).encoded()).plain
    for other in (Picture("TIFF"), Picture(mode="L"), Picture("JPEG", orientation=3), Picture(mode="RGBA"),
                  Picture("GIF"), Picture("PPM")):  # fmt: skip
        assert not decode(other.encoded()).plain, other
    assert not decode(png(16, 2, [struct.pack(">12H", *range(12))])).plain
    pixels = np.asarray(Picture().image())
    assert np.array_equal(decode(encode_png(pixels)).pixels, pixels) and decode(encode_png(pixels)).plain


def test_without_a_decoder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    heic, avif = Picture("HEIF").encoded(), Picture("AVIF").encoded()
    assert decode(heic).pixels.shape == decode(avif).pixels.shape == (112, 112, 3)
    real = builtins.__import__

    def missing(name: str, *more: Any) -> Any:
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.delitem(sys.modules, "pillow_heif")
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UnreadableImage, match=r"HEIC, and no decoder.*\n.*ppfr-bench\[heic\]"):
        decode(heic)
    with pytest.raises(UnreadableImage, match=r"AVIF, and this Pillow reads none.*\n.*pip install -U pillow"):
        decode(avif)


def test_an_image_is_known_by_its_first_bytes() -> None:
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "MPO"):
        assert looks_like_image(Picture(kind).encoded()[:64]), kind
    for other in (b"", b"text", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypisom", b"Python", b"P7 x"):
        assert not looks_like_image(other), other
