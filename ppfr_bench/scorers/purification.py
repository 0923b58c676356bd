"""Purification: how like the clear image a purified one is. What it is worth is what recognizers make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import to_float
from ppfr_bench.metrics import load_image_metric
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth, wrong_images
from ppfr_bench.scorers.bootstrap import Bootstrap, mean, measurement


class Purification(Scorer):
    """LPIPS, SSIM and PSNR of the purified images to the clear ones, beside those of the same attack unprotected.

    It sets no privacy: a cloak shows the face to people as it is.
    """

    version = 1
    title = "likeness of purified images"
    metrics = ("lpips", "ssim", "psnr")
    shows_faces = True

    def wrong_answer(self, answer: npt.NDArray[Any], targets: int, gallery: int) -> str:
        """Expects uint8 (targets, 3, 112, 112)."""
        return wrong_images(answer, targets)

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Each measure, with that of what the attack makes of clear images as its ceiling."""
        weights = bootstrap.items(truth.targets)
        found: dict[str, dict[str, list[npt.NDArray[np.float64]]]] = {
            part: {name: [] for name in self.metrics} for part in ("answer", "ceiling")
        }
        for rows, originals in truth.originals():
            clear = to_float(originals)
            for part, values in found.items():
                shown = to_float(np.asarray(inputs[part]["answer"][rows]))
                for name in self.metrics:
                    values[name].append(load_image_metric(name).values(shown, clear))
        return {
            name: measurement(
                name, mean(np.concatenate(found["answer"][name]), weights),
                ceiling=mean(np.concatenate(found["ceiling"][name]), weights),
            )
            for name in self.metrics
        }  # fmt: skip


SCORER = Purification
