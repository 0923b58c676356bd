"""Soft biometrics: what published classifiers read off a face, and whether a detector finds one.

No label says how old a person is or of what sex. What is compared is what one classifier reads off two images, a
protected or rebuilt face and the original. It tells what whoever runs such classifiers regains, and nothing of how
right they are about the person.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.base import FloatArray, MetricInfo

if TYPE_CHECKING:
    from torch import Tensor

    from ppfr_bench.metrics.tfjs_graph import TfjsGraph

AGES = 100  # The classifier tells years from 0 to 99.
CLASSES: dict[str, tuple[str, ...]] = {  # In the order of the classifiers' answers.
    "sex": ("female", "male"),
    "race_group": ("white", "black", "asian", "indian", "other"),
    "expression": ("angry", "disgusted", "afraid", "happy", "sad", "surprised", "neutral"),
}
COLUMNS: dict[str, slice] = {
    "age": slice(0, 1), "sex": slice(1, 3), "race_group": slice(3, 8), "expression": slice(8, 15),
    "detection": slice(15, 16),
}  # fmt: skip
WIDTH = 16
FIRES = 0.5  # The detector's score from which a face counts as found, as MediaPipe has it.
_NETWORKS = {  # The nodes that are read.
    "faceres": ("gender_pred/Sigmoid", "age_pred/Softmax"), "gear": ("Identity_2",), "emotion": ("Identity",),
    "blazeface": ("Identity", "Identity_1"),
}  # fmt: skip
_VGG_MEAN = (123.68, 116.779, 103.939)  # Of red, green and blue, 0..255.
_LUMA = (0.2989, 0.587, 0.114)
_CUT = 11  # Pixels of 112 that are cut off each side for race group, whose readings are then steadier.
_ADDED = 16  # Pixels that are added at each side, as at the border, for the detector to have something around the face.
_BATCH = 4  # The activations of so few stay in the cache.

INFOS = (
    MetricInfo(
        "agreement", 1, (0.0, 1.0), "higher_is_better", "share", "ppfr-bench, docs/metrics.md",
        "Share of faces for which a classifier's answer is the one that it gives on the original",
    ),
    MetricInfo(
        "detection_rate", 1, (0.0, 1.0), "higher_is_better", "share", "BlazeFace, Bazarevsky et al. 2019",
        "Share of images in which a face detector finds a face",
    ),
)  # fmt: skip


def read_soft_biometrics(images: npt.NDArray[np.uint8]) -> FloatArray:
    """uint8 (n, 3, 112, 112), aligned -> float64 (n, 16), in the order of ``COLUMNS``.

    ``age`` in years is the mean of the distribution that faceres gives; ``sex``, ``race_group`` (of gear) and
    ``expression`` (of emotion) are probabilities of ``CLASSES``, which sum to 1; ``detection`` is the largest score of
    BlazeFace in [0, 1].

    Raises:
        Unavailable: the weights are not to be had on this machine.
    """
    import torch

    from ppfr_bench.api import SIZE

    assert images.shape[1:] == (3, SIZE, SIZE), f"expected aligned faces, got {images.shape}"
    found = np.empty((len(images), WIDTH))
    with torch.inference_mode():
        for part in (slice(at, at + _BATCH) for at in range(0, len(images), _BATCH)):
            for name, values in _read(images[part]):
                found[part, COLUMNS[name]] = values.cpu().double().numpy()
    return found


def _read(images: npt.NDArray[np.uint8]) -> Iterator[tuple[str, Tensor]]:
    import torch
    from torch.nn import functional

    from ppfr_bench.api import to_float

    faces = to_float(images)
    means, weights = (faces.new_tensor(one).reshape(1, 3, 1, 1) for one in (_VGG_MEAN, _LUMA))
    male, ages = _network("faceres", (faces * 255 - means).flip(1))
    yield "age", ages @ torch.arange(AGES, device=ages.device, dtype=ages.dtype)[:, None]
    yield "sex", torch.cat([1 - male, male], 1)
    (groups,) = _network("gear", faces[:, :, _CUT:-_CUT, _CUT:-_CUT])
    yield "race_group", groups
    (expressions,) = _network("emotion", (faces * weights).sum(1, keepdim=True) * 2 - 1)
    yield "expression", expressions
    framed = functional.pad(faces, (_ADDED,) * 4, mode="replicate")
    scores = torch.cat(_network("blazeface", framed * 2 - 1), 1)
    yield "detection", scores.amax((1, 2))[:, None].sigmoid()


def _network(name: str, images: Tensor) -> tuple[Tensor, ...]:
    """What a network answers to images of any size."""
    import torch
    from torch.nn import functional

    from ppfr_bench import device

    network = device.to(_loaded(name))
    resized = functional.interpolate(images, network.size[:2], mode="bilinear", align_corners=False)
    answer: Any = network(resized.contiguous(memory_format=torch.channels_last))
    return tuple(answer)


_LOADED: dict[str, TfjsGraph] = {}


def _loaded(name: str) -> TfjsGraph:
    if name not in _LOADED:
        from ppfr_bench.assets import asset_path
        from ppfr_bench.metrics.tfjs_graph import read_tfjs_graph

        _LOADED[name] = read_tfjs_graph(asset_path(name), asset_path(f"{name}_weights"), _NETWORKS[name])
    return _LOADED[name]
