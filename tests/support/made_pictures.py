"""Encoded pictures of every mode, format, size, orientation and transparency that Pillow writes."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La",
         "I;16", "I;16L", "I;16B")  # fmt: skip
FORMATS = {
    "JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "PPM": ".pgm",
    "AVIF": ".avif", "HEIF": ".heic", "MPO": ".jpg", "DIB": ".dib", "JPEG2000": ".jp2", "ICO": ".ico", "TGA": ".tga",
    "SGI": ".sgi", "PCX": ".pcx", "DDS": ".dds", "QOI": ".qoi", "EPS": ".eps",
    "SPIDER": ".spider", "XBM": ".xbm", "MSP": ".msp",
}  # fmt: skip
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
TURNED = ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF")  # formats whose EXIF Pillow writes


@dataclass(frozen=True)
class Picture:
    """What is written: ``hole`` makes a corner of an image with alpha transparent, ``copies`` adds frames."""

    kind: str = "PNG"
    mode: str = "RGB"
    size: tuple[int, int] = (112, 112)
    orientation: int = 1
    hole: bool = False
    copies: int = 1
    seed: int = 0

    @property
    def suffix(self) -> str:
        return FORMATS[self.kind]

    def image(self) -> Image.Image:
        """Smooth noise of that mode."""
        random = np.random.default_rng(self.seed)
        width, height = self.size
        small = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        colour = small.resize((width, height), Image.Resampling.BICUBIC)
        alpha = np.full((height, width), 255, np.uint8)
        if self.hole:
            alpha[: height // 2 + 1, : width // 2 + 1] = 0
        return _as_mode(colour, Image.fromarray(alpha), self.mode)

    def encoded(self) -> bytes:
        """The file.

        Raises:
            OSError, ValueError, KeyError, TypeError: Pillow does not write this mode in this format.
        """
        more: dict[str, Any] = {}
        if self.orientation != 1 and self.kind in TURNED:
            exif = Image.Exif()
            exif[0x0112] = self.orientation
            more["exif"] = exif
        if self.copies > 1:
            more |= {"save_all": True, "append_images": [self.image().copy() for _ in range(self.copies - 1)]}
        if self.kind == "AVIF" and self.copies > 1 and more.get("exif"):
            raise ValueError("Pillow 13.0 crashes as it writes an orientation into an AVIF of several pictures")
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an encoder that uses what Pillow is about to drop
            self.image().save(buffer, self.kind, **more)
        return buffer.getvalue()


def _as_mode(colour: Image.Image, alpha: Image.Image, mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        deep = np.asarray(colour.convert("L")).astype("<u2" if mode != "I;16B" else ">u2") * np.uint16(257) + 3
        order = deep.astype("<u2" if mode != "I;16B" else ">u2")
        return Image.frombuffer(mode, colour.size, order.tobytes(), "raw", mode, 0, 1)
    if mode == "LAB":
        spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.profileToProfile(colour, *spaces, outputMode="LAB")
        assert made is not None
        return made
    if mode in ("RGBA", "RGBa"):
        colour.putalpha(alpha)
        return colour.convert(mode)
    if mode in ("LA", "La"):
        grey = colour.convert("L")
        grey.putalpha(alpha)
        return grey.convert(mode)
    if mode == "PA":
        made = colour.convert("P").convert("PA")
        made.putalpha(alpha)
        return made
    return colour.convert(mode)
