"""Alignment: the similarity that brings landmarks onto the ArcFace 112x112 template."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from ppfr_bench.api import SIZE, ByteArray

# InsightFace's template: left eye, right eye, nose tip, left and right mouth corner, (x, y) in pixels.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
EYES = TEMPLATE[:2]


def similarity(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The least-squares similarity (2, 3) with ``target ~ A source + t``; Umeyama 1991, without reflection.

    Args:
        source, target: (k, 2), at least two points each.
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    covariance = (target - mean_target).T @ centred / len(source)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = (singular * signs).sum() / (centred**2).sum() * len(source)
    return np.column_stack([scale * rotation, mean_target - scale * rotation @ mean_source])


def align(image: ByteArray, points: npt.NDArray[np.float64], template: npt.NDArray[np.float64] = TEMPLATE) -> ByteArray:
    """The aligned crop uint8 (3, 112, 112) of an image uint8 (3, h, w); what lies outside is mirrored.

    Args:
        points: (k, 2) landmarks (x, y) in pixels, in the order of ``template``.
    """
    pad = SIZE // 2
    padded = np.pad(image.transpose(1, 2, 0), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    forward = similarity(points + pad, template)
    inverse = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    crop = Image.fromarray(padded).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BICUBIC
    )
    return np.ascontiguousarray(np.asarray(crop).transpose(2, 0, 1))
