"""A second detector of faces, unlike the one that protects them: it says where the first one has missed a face.

The network is the face detector of the package that ``faceplugin`` comes from: 320x240 pixels in, boxes of 10 to 256
pixels out (the "ultra light" detector with RFB modules, 1 MB). An image is searched in overlapping tiles at scales a
half apart. What is found is then looked at six times more, alone, at three sizes, shifted and mirrored: a face keeps
its score, and what only resembles one in one position does not.

Measured, with crops of S pixels pasted into photographs of 640x480, 200 a size and kind: the share found here, and by
dlib's detector as ``protect`` calls it (``smallest`` 48):

| S | LFW | dlib | profiles of CFP | dlib | computer-generated | dlib |
|---|---|---|---|---|---|---|
| 32 | 0.93 | 0.01 | 0.44 | 0.00 | 0.62 | 0.00 |
| 40 | 1.00 | 0.15 | 0.73 | 0.00 | 0.97 | 0.01 |
| 48 | 1.00 | 0.85 | 0.80 | 0.20 | 0.98 | 0.54 |
| 64 | 1.00 | 0.97 | 0.86 | 0.48 | 1.00 | 0.94 |
| 100 | 1.00 | 0.99 | 0.81 | 0.45 | 1.00 | 0.90 |
| 200 | 1.00 | 0.99 | 0.83 | 0.43 | 1.00 | 0.91 |
| 400 | 1.00 | 0.99 | 0.86 | 0.48 | 1.00 | 0.90 |

False alarms: in none of 1,101 views, enlarged and cut at random, of 20 photographs, pages and micrographs and of noise,
and in 22 of 99 of two motorcycles, all at a headlamp; these helped to choose the threshold. In none of 316 test cards,
fractals, drawings and screenshots that did not. The first look alone, at the score its authors take (0.65), raises one
in one of six views of 640x480 and one of three of 1280x720 (300 each).

Time, on one core: 21, 70 and 122 ms for 640x480, 1280x720 and 1920x1080, and 18 ms for each face to look at again;
dlib's detector takes 74, 230 and 495 ms. dlib's own network for faces (mmod) takes 1,880 ms for 640x480, and was not
chosen for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision.ops import box_iou, nms

from ppfr_bench.api import ByteArray
from ppfr_bench.assets import asset_path
from ppfr_bench.datasets.detection import Points
from ppfr_bench.errors import Unavailable
from ppfr_bench.recognizers._runtime import require

Box = tuple[float, float, float, float]

SMALLEST = 24  # pixels: the longer side of the smallest face that is looked for
_WIDTH, _HEIGHT = 320, 240  # The network takes this size.
_STEP = 240, 160  # pixels from tile to tile: a face of 80 pixels is whole in one of them
_SMALL = 16  # pixels of the smallest face in the finest scale
_CANDIDATE = 0.5  # score of what is looked at again
_SAME = 0.35  # intersection over union beyond which the second look sees the same thing
_SURE = 0.85  # mean score of the six looks
_LOOKS = (  # longer side of the face in pixels, shift right and down, whether mirrored
    (36, 11, 5, False), (36, -13, -9, True), (56, 7, -11, True), (56, -3, 3, False), (90, -17, 13, False),
    (90, 5, -7, True),
)  # fmt: skip
_GREY = 127


def find_again(image: ByteArray, known: Callable[[Box], bool] = lambda box: False) -> list[Box]:
    """Boxes (left, top, right, bottom) in pixels of the faces of a photograph uint8 (h, w, 3).

    Args:
        known: whether nobody needs to hear of a face at a box; it is left out.

    Raises:
        Unavailable: ONNX Runtime or the weights are not on this machine.
    """
    boxes: list[Points] = [np.empty((0, 4))]
    scores: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
    for tile, left, top, scale in _tiles(Image.fromarray(image)):
        found, score = _detect(tile)
        sure = score > _CANDIDATE
        boxes.append((found[sure] + [left, top, left, top]) / [*scale, *scale])
        scores.append(score[sure])
    all_boxes, all_scores = np.concatenate(boxes), np.concatenate(scores)
    kept = nms(torch.from_numpy(all_boxes), torch.from_numpy(all_scores).double(), 0.4).tolist()
    large = [box for box in all_boxes[kept] if (box[2:] - box[:2]).max() >= SMALLEST]
    return [tuple(box.tolist()) for box in large if not known(tuple(box.tolist())) and _second_look(image, box) > _SURE]


def why_not_checked() -> str:
    """Why this machine has no second detector; empty if it has."""
    try:
        load()
    except Unavailable as error:
        return str(error).replace("\n", ": ")
    return ""


@cache
def load() -> Any:
    """The network, loaded once a process.

    Raises:
        Unavailable: ONNX Runtime or the weights are not on this machine.
    """
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # the frames of a video are shared out over processes
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(asset_path("faceplugin_detector")), options, providers=["CPUExecutionProvider"])


def _detect(tile: ByteArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """uint8 (240, 320, 3) -> boxes (4420, 4) in its pixels, and their scores."""
    pixels = ((tile.astype(np.float32) - _GREY) / 128).transpose(2, 0, 1)[None]
    scores, boxes = load().run(["scores", "boxes"], {"input": pixels})
    return boxes[0] * np.array([_WIDTH, _HEIGHT, _WIDTH, _HEIGHT], np.float32), scores[0, :, 1]


def _tiles(image: Image.Image) -> Iterator[tuple[ByteArray, int, int, tuple[float, float]]]:
    """Tiles of the image at every scale: pixels, where each begins, and the scale across and down."""
    last = min(_WIDTH / image.width, _HEIGHT / image.height)
    scale = max(last, _SMALL / SMALLEST)
    while True:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
        for top in _starts(size[1], _HEIGHT, _STEP[1]):
            for left in _starts(size[0], _WIDTH, _STEP[0]):
                tile = np.full((_HEIGHT, _WIDTH, 3), _GREY, np.uint8)
                part = scaled[top : top + _HEIGHT, left : left + _WIDTH]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile, left, top, (size[0] / image.width, size[1] / image.height)
        if scale == last:
            return
        scale = max(last, scale / 2)


def _starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin that cover a length, at most ``step`` apart."""
    count = max(0, -(-(length - window) // step))
    return [round(i * (length - window) / count) for i in range(count + 1)] if count else [0]


def _second_look(image: ByteArray, box: npt.NDArray[np.float64]) -> float:
    """The mean score of what is at a box, at the sizes and places of ``_LOOKS``."""
    scores = []
    for side, right, down, mirrored in _LOOKS:
        tile, there = _view(image, box, side, right, down)
        if mirrored:
            tile, there = tile[:, ::-1], np.array([_WIDTH - there[2], there[1], _WIDTH - there[0], there[3]])
        boxes, score = _detect(tile)
        same = box_iou(torch.from_numpy(boxes).double(), torch.from_numpy(there[None]))[:, 0].numpy() > _SAME
        scores.append(float(score[same].max(initial=0)))
    return float(np.mean(scores))


def _view(
    image: ByteArray, box: npt.NDArray[np.float64], side: float, right: int, down: int
) -> tuple[ByteArray, npt.NDArray[np.float64]]:
    """A tile with the box near its middle, its longer side ``side`` pixels long, and where the box is in the tile."""
    scale = side / float((box[2:] - box[:2]).max())
    corner = (box[:2] + box[2:]) / 2 - np.array([_WIDTH / 2 + right, _HEIGHT / 2 + down]) / scale
    start = np.clip(np.floor(corner), 0, None).astype(int)
    end = np.clip(np.ceil(corner + np.array([_WIDTH, _HEIGHT]) / scale), 0, image.shape[1::-1]).astype(int)
    part = Image.fromarray(image[start[1] : end[1], start[0] : end[0]])
    size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
    tile = Image.new("RGB", (_WIDTH, _HEIGHT), (_GREY,) * 3)
    place = np.round((start - corner) * scale).astype(int)
    tile.paste(part.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0), (int(place[0]), int(place[1])))
    return np.asarray(tile), (box - np.tile(corner, 2)) * scale
