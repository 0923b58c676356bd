"""The one door for pictures: encoded images or Pillow's in, 8-bit sRGB out, the right way up, or a reason why not.

Whatever takes a picture in goes through here, so that the same file gives the same pixels in every command:

- formats: JPEG (of several pictures in one file the first), PNG, BMP, WebP, TIFF, GIF, PGM/PPM; HEIC and AVIF where
  their decoders are installed. They are told by the content, not by the name. No other decoder ever runs;
- orientation: EXIF's and XMP's is applied;
- depth: grey of 16 bits is scaled to 8; of 32 bits and floating point, whose range nothing tells, is refused;
- colour: palettes, CMYK, Lab and embedded ICC profiles become sRGB;
- transparency: an image with a pixel that is not opaque is refused. What it hides is still in the file, and no
  background is made up;
- several pictures (animations, pages) are refused, as all but one would be lost.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError, features

from ppfr_bench.errors import UserError

__all__ = ["SUFFIXES", "Decoded", "UnreadableImage", "decode", "encode_png", "from_pillow", "looks_like_image", "read"]

ByteArray = npt.NDArray[np.uint8]  # ``api`` has it too, but loads torch, which records and pages do without.

KINDS = "JPEG, PNG, BMP, WebP, TIFF, GIF, PGM or PPM, HEIC, AVIF"
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif",
    ".pgm", ".ppm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".avif",
})  # fmt: skip
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
_FIRST = ("MPO", "HEIF")  # Their other pictures are a depth map, a gain map or a burst of the same photograph.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")
_AVIF = (b"avif", b"avis")
_LARGEST = 64 << 20  # Bytes of one file.
_PHOTOMETRIC = 262  # The tag of a TIFF that says what its numbers mean; 0: the smallest is white.
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # Pillow's mode -> the ICC's name.
_FLATTEN = "Flatten it first:  magick IN -background white -alpha remove -alpha off OUT.png"
_CONVERT = "Convert it to 8 bits first:  magick IN -depth 8 OUT.png"


class UnreadableImage(UserError):
    """A picture that is not taken in; the message, without the picture's name, fits into a list of reasons."""


@dataclass(frozen=True)
class Decoded:
    """A picture: ``pixels`` uint8 (h, w, 3) in sRGB, the right way up; ``kind`` as Pillow names the format.

    ``plain``: any decoder shows these pixels, as the file is a JPEG, PNG, BMP or WebP of 8-bit RGB that asks for no
    turning, has no colour profile, and holds nothing else.
    """

    pixels: ByteArray
    kind: str
    plain: bool


def decode(content: bytes, size: tuple[int, int] | None = None) -> Decoded:
    """One encoded image.

    Args:
        size: width and height that it must have; another one is refused before anything is decoded.

    Raises:
        UnreadableImage: it is no image of these formats, broken, too large, of another size, transparent in places,
            of more than one picture, or of a depth or colour that has no one meaning.
    """
    if len(content) > _LARGEST:
        raise UnreadableImage(f"larger than {_LARGEST >> 20} MB", "Make it smaller.")
    formats = [*_FORMATS, *_modern(content)]
    with warnings.catch_warnings():
        # Pillow only warns of an image of up to twice its limit, and of broken metadata, which cost no pixel.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            if content.startswith(b"\x89PNG"):  # Pillow checks the sums of all its parts only when it is asked to.
                with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                    image.verify()
            with Image.open(io.BytesIO(content), formats=formats) as image:
                kind = str(image.format)
                if size is not None and image.size != size:
                    raise UnreadableImage(
                        "expected an aligned image of {}x{} pixels, got {}x{}".format(*size, *image.size),
                        "Find and align its face first:  ppfr-bench data prepare folder SRC DST",
                    )
                untouched = image.mode == "RGB" and kind in ("JPEG", "PNG", "BMP", "WEBP")
                untouched = untouched and "16" not in _rawmode(image)
                pixels, changed = _convert(image)
        except UnreadableImage:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise UnreadableImage("more than 89 million pixels", "Make it smaller.") from error
        except UnidentifiedImageError as error:
            raise UnreadableImage("not an image that can be read", f"Expected {KINDS}.") from error
        except Exception as error:  # Decoders raise anything on a broken file.
            words = " ".join(str(error).split())[:120]
            raise UnreadableImage(f"not an image that can be read: {words}", "Remove or replace the file.") from error
    return Decoded(pixels, kind, untouched and not changed)


def read(path: Path, size: tuple[int, int] | None = None) -> Decoded:
    """One image file: see ``decode``.

    Raises:
        UnreadableImage: as ``decode``, or there is no such file, or it cannot be read.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UnreadableImage(f"larger than {_LARGEST >> 20} MB", "Make it smaller.")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableImage("no such image", "Put the file there, or take it off the list.") from error
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror or error}", "Check the file.") from error
    return decode(content, size)


def from_pillow(image: Image.Image) -> ByteArray:
    """An image that Pillow has opened or made -> uint8 (h, w, 3), as ``decode``.

    Raises:
        UnreadableImage: as ``decode``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which cost no pixel.
        try:
            return _convert(image)[0]
        except UnreadableImage:
            raise
        except Exception as error:  # Pillow decodes only now, and decoders raise anything on a broken file.
            words = " ".join(str(error).split())[:120]
            raise UnreadableImage(f"not an image that can be read: {words}", "Remove or replace it.") from error


def encode_png(pixels: ByteArray) -> bytes:
    """uint8 (h, w, 3) -> a PNG without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def looks_like_image(head: bytes) -> bool:
    """Whether the first bytes of a file, 16 or more, are those of a format that is read here."""
    starts = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8")
    anymap = head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    return head.startswith(starts) or anymap or (head[:4], head[8:12]) == (b"RIFF", b"WEBP") or _is_modern(head)


def _is_modern(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in (*_HEIC, *_AVIF)


def _modern(content: bytes) -> tuple[str, ...]:
    """The decoder of a HEIC or AVIF file.

    Raises:
        UnreadableImage: it is not installed.
    """
    if not _is_modern(content):
        return ()
    if content[8:12] in _AVIF or b"avif" in content[8:64]:
        if not features.check("avif"):
            raise UnreadableImage("AVIF, and this Pillow reads none", "Type:  pip install -U pillow")
        return ("AVIF",)
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UnreadableImage("HEIC, and no decoder is installed", "Type:  pip install 'ppfr-bench[heic]'") from error
    register_heif_opener()
    return ("HEIF",)


def _convert(image: Image.Image) -> tuple[ByteArray, bool]:
    """Pixels, and whether anything but decoding was done."""
    if image.format is not None and image.format not in (*_FORMATS, *_FIRST, "AVIF"):
        raise UnreadableImage(f"of the format {image.format}, expected {KINDS}", "Save it as PNG first.")
    pictures = int(getattr(image, "n_frames", 1))
    if pictures > 1 and image.format not in _FIRST:
        raise UnreadableImage(f"holds {pictures} pictures, expected one", "Save the one that you mean by itself.")
    if min(image.size) < 1:
        raise UnreadableImage("holds no pixel", "Remove or replace it.")
    rawmode = _rawmode(image)
    if rawmode == "BGRX" and image.format == "BMP":
        _check_fourth_byte(image)
    negative = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    image.load()
    profile, turned = image.info.get("icc_profile"), image.getexif().get(0x0112, 1) not in (0, 1)
    image = _opaque(image, rawmode)
    image = ImageOps.exif_transpose(image) if turned else image
    image = _eight_bits(image, negative)
    converted = _to_srgb(image, profile)
    pixels = np.asarray(converted if converted is not None else image.convert("RGB"))
    return np.ascontiguousarray(pixels), turned or converted is not None or "transparency" in image.info


def _rawmode(image: Image.Image) -> str:
    """How the pixels lie in the file, as Pillow names it: ``RGB;16B``; empty once they are loaded."""
    tiles: list[Any] = list(getattr(image, "tile", ()))
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _check_fourth_byte(image: Any) -> None:
    """A BMP of 32 bits a pixel does not say whether the fourth byte is alpha: it is, unless it never changes.

    Raises:
        UnreadableImage: it does change.
    """
    offset, (width, height) = int(image.tile[0][2]), image.size
    place = image.fp.tell()
    image.fp.seek(offset)
    fourth = np.frombuffer(image.fp.read(4 * width * height), np.uint8)[3::4]
    image.fp.seek(place)
    if len(fourth) and (fourth != fourth[0]).any():
        raise UnreadableImage("transparent in places, and what it hides is still in the file", _FLATTEN)


def _opaque(image: Image.Image, rawmode: str) -> Image.Image:
    """The image without its alpha, which must hide nothing.

    Raises:
        UnreadableImage: a pixel of it is not opaque.
    """
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        if image.mode in ("RGBa", "La"):
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        hidden = int((alpha < 255).sum())
        kept = image.info
        image = image.convert("L" if image.mode == "LA" else "RGB")
        image.info = {key: value for key, value in kept.items() if key != "transparency"}
    elif (key := image.info.get("transparency")) is not None:
        hidden = _keyed(np.asarray(image), key, rawmode)
    else:
        hidden = 0
    if hidden:
        raise UnreadableImage("transparent in places, and what it hides is still in the file", _FLATTEN)
    return image


def _keyed(pixels: Any, key: Any, rawmode: str) -> int:
    """Pixels of the colour that is transparent; PNG gives it in the file's depth, Pillow the pixels in its own."""
    wanted = np.atleast_1d(np.asarray(key, dtype=np.int64))
    readings = [wanted]
    if rawmode not in ("L", "RGB", "I;16B", "I;16"):
        readings += [wanted >> 8, wanted * 17, wanted * 85, wanted * 255]
    values = np.asarray(pixels, dtype=np.int64)
    values = values[..., None] if values.ndim == 2 else values
    return max(int((values == reading).all(axis=-1).sum()) for reading in readings)


def _eight_bits(image: Image.Image, negative: bool) -> Image.Image:
    """Grey of 16 bits -> of 8, rounded.

    Args:
        negative: 0 is white in the file, which Pillow minds in grey of 8 bits alone.

    Raises:
        UnreadableImage: more bits, or floating point: nothing says which value is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        deep = np.asarray(image).astype(np.uint32)
        deep = 65535 - deep if negative else deep
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        depth = "32-bit integers" if image.mode == "I" else "32-bit floating point"
        raise UnreadableImage(f"grey in {depth}, expected 8 or 16 bits", _CONVERT)
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """The image in sRGB if it says that it is in another space; None where Pillow's plain conversion is right."""
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in _SPACES:
        image = image.convert("RGB")
    source: Any = None
    if profile:
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if str(opened.profile.xcolor_space) == _SPACES[image.mode]:
                source = opened
        except (OSError, ImageCms.PyCMSError, AttributeError):
            source = None  # Viewers ignore a broken profile too.
    if source is None and image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    if source is None or (image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower()):
        return None
    try:
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:
        if image.mode == "LAB":
            raise
        return None
