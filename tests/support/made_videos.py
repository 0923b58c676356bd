"""Videos as cameras, browsers and broken downloads leave them, small, and what is in their frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field

from ppfr_bench import registry
from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard
from ppfr_bench.datasets.detection import DLIB_TEMPLATE, Face
from ppfr_bench.testing import example_faces

av = pytest.importorskip("av", reason="pip install 'ppfr-bench[video]'")

CROP = example_faces().load([0])[0]
ONE, LAST = 1 << 16, 1 << 30
NOISE = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8)
TURNS = {  # a, b, c, d of the display matrix -> the corners of RG/BW as they are seen, row by row
    "as it is": ((1, 0, 0, 1), "RGBW"),
    "upside down": ((-1, 0, 0, -1), "WBGR"),
    "clockwise": ((0, 1, -1, 0), "BRWG"),
    "anticlockwise": ((0, -1, 1, 0), "GWRB"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "mirrored, upside down": ((1, 0, 0, -1), "BWRG"),
    "transposed": ((0, 1, 1, 0), "RBGW"),
    "transposed the other way": ((0, -1, -1, 0), "WGBR"),
}


class KeyConfig(Config):
    secret: int = Field(0, ge=0)


class GreyOfTheKey(Defense):
    """Every image becomes the grey of the key, plus a level of the generator's."""

    version = 1
    card = DefenseCard(title="grey", family="test", reference="-", licence="MIT", randomness="per_user_key")
    Config = KeyConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.full_like(images, (self.config.secret % 200 + 20) / 255)


class ClearAfter(GreyOfTheKey):
    """Black for some images, and clear from then on."""

    card = DefenseCard(title="forgetful", family="test", reference="-", licence="MIT", randomness="deterministic")
    black = 2

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.black -= 1
        return torch.zeros_like(images) if self.black >= 0 else images


def blackout() -> Any:
    return registry.build("defense", "blackout", {})


def room(*places: tuple[int, int, int]) -> ByteArray:
    """260x280, with faces at (left, top, side)."""
    picture = Image.new("RGB", (280, 260), (90, 100, 110))
    for left, top, side in places:
        face = Image.fromarray(CROP.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(face, (left, top))
    return np.asarray(picture)


def face_at(x: float, y: float, scale: float = 1.25) -> Face:
    points = (DLIB_TEMPLATE + 0.5) * scale + [x, y] - 0.5
    return Face((x + 20, y + 30, x + 120, y + 130), points)


def write_video(
    path: Path,
    frames: Sequence[ByteArray],
    codec: str = "libx264",
    kind: str = "yuv420p",
    *,
    rate: int = 4,
    times: Sequence[int] | None = None,
    turn: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: float = 0,
    seconds_before: int = 0,
    **options: str,
) -> Path:
    """``times`` in ticks of one frame each; ``sound`` in seconds; ``options`` of the container."""
    with av.open(str(path), "w", container_options=options) as out:
        # One thread writes the same bytes everywhere, so that a share of the file ends at the same place.
        best = {"crf": "10", "g": "10", "threads": "1"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=rate, options=best)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], kind
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        if turn is not None:
            if not hasattr(stream, "set_display_matrix"):
                pytest.skip("this PyAV does not write display matrices")
            stream.set_display_matrix(turn)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio = aspect
        if sound:
            add_sound(out, sound)
        for number, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.shape[2] == 3 else "rgba")
            made.pts = (number if times is None else times[number]) + seconds_before * rate
            made.time_base = Fraction(1, rate)
            out.mux(stream.encode(made))
        out.mux(stream.encode(None))
    return path


def add_sound(out: Any, seconds: float) -> None:
    stream = out.add_stream("aac", rate=16000)
    for start in range(0, round(16000 * seconds), 1024):
        loud = np.random.default_rng(start).normal(0, 0.3, (1, 1024)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(loud, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def read_video(path: Path) -> list[ByteArray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


def matrix(a: float, b: float, c: float, d: float, u: float = 0, v: float = 0, w: float = 1) -> list[int]:
    first, last = (
        [round(value * unit) for value in values] for values, unit in (((a, b, c, d), ONE), ((u, v, w), LAST))
    )
    return [first[0], first[1], last[0], first[2], first[3], last[1], 0, 0, last[2]]


def with_matrix(path: Path, entries: Sequence[int]) -> Path:
    """The MP4 with another display matrix in its track header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *entries)
    path.write_bytes(bytes(content))
    return path


def four_colours(height: int = 64, width: int = 96) -> ByteArray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255, 0, 0
    image[: height // 2, width // 2 :] = 0, 255, 0
    image[height // 2 :, : width // 2] = 0, 0, 255
    image[height // 2 :, width // 2 :] = 255
    return image


def corners(image: ByteArray) -> str:
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    return "".join(names[tuple(int(part > 127) for part in image[y, x])] for y in (8, -8) for x in (8, -8))


def cut(path: Path, share: float, zeros: bool = False) -> Path:
    """The file without its end, or with zeros there, as an interrupted download leaves it."""
    content = path.read_bytes()
    kept = content[: round(len(content) * share)]
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(kept + bytes(len(content) - len(kept)) * zeros)
    return short
