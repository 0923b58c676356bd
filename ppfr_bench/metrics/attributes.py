"""Attributes: what can be measured of an aligned clear face without a label from anybody.

Only what the pixels themselves settle. What a classifier has to say, such as age or sex, is in ``soft_biometrics``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ppfr_bench.metrics.base import FloatArray, MetricInfo

if TYPE_CHECKING:
    import torch

# Rows and columns are those of the 112x112 template of ArcFace (eyes at row 52, mouth at row 92).
_CHEEKS = ((slice(66, 82), slice(26, 40)), (slice(66, 82), slice(72, 86)))
_BROWS = ((slice(38, 44), slice(30, 46)), (slice(38, 44), slice(66, 82)))
_LIP_AND_CHIN = ((slice(80, 86), slice(48, 64)), (slice(100, 110), slice(46, 66)))
_MOUTH = ((slice(89, 96), slice(46, 66)),)
ATTRIBUTES = ("skin_tone", "brow_tone", "facial_hair", "lip_colour")
INFOS = (
    MetricInfo(
        "attribute_error", 2, (0, None), "lower_is_better", "share", "ppfr-bench, docs/metrics.md",
        "Mean squared error of an inferred attribute, as a share of its variance among the targets",
    ),
)  # fmt: skip

_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))  # sRGB, D65
_WHITE = (0.9505, 1.0, 1.089)


def read_attributes(images: npt.NDArray[np.uint8]) -> FloatArray:
    """uint8 (n, 3, 112, 112), aligned -> float64 (n, 4), in the order of ``ATTRIBUTES``.

    ``skin_tone`` is the individual typology angle of the cheeks in degrees (Chardon et al. 1991; on faces, Merler et
    al., Diversity in Faces, 2019); ``brow_tone`` how much darker the eyebrows are than the cheeks;
    ``facial_hair`` how much darker upper lip and chin are than the cheeks; ``lip_colour`` how much redder the mouth is,
    all in units of CIELAB.
    """
    import torch

    from ppfr_bench.api import SIZE, to_float

    assert images.shape[1:] == (3, SIZE, SIZE), f"expected aligned faces, got {images.shape}"
    lab = _lab(to_float(images))
    cheeks, chin, mouth, brows = (_median(lab, part) for part in (_CHEEKS, _LIP_AND_CHIN, _MOUTH, _BROWS))
    tone = torch.rad2deg(torch.atan2(cheeks[:, 0] - 50, cheeks[:, 2]))
    found = [tone, cheeks[:, 0] - brows[:, 0], cheeks[:, 0] - chin[:, 0], mouth[:, 1] - cheeks[:, 1]]
    return torch.stack(found, dim=1).cpu().double().numpy()


def _lab(images: torch.Tensor) -> torch.Tensor:
    """sRGB in [0, 1] -> CIELAB, (n, 3, h, w) both (CIE 15:2004)."""
    import torch

    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    ratio = torch.einsum("ij,njhw->nihw", linear.new_tensor(_TO_XYZ), linear) / linear.new_tensor(_WHITE)[:, None, None]
    curved = torch.where(ratio > (6 / 29) ** 3, ratio.clamp_min(1e-9) ** (1 / 3), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = curved.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _median(lab: torch.Tensor, parts: tuple[tuple[slice, slice], ...]) -> torch.Tensor:
    """(n, 3, h, w) -> (n, 3), over all pixels of the parts."""
    import torch

    return torch.cat([lab[:, :, rows, columns].flatten(2) for rows, columns in parts], dim=2).median(2).values
