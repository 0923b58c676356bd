"""Likeness: how much of the clear image people still see on a cloaked one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import ByteArray, Recognizer, to_float
from ppfr_bench.datasets.detection import find_faces
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.metrics import load_image_metric
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate, mean, measurement, share_and_draws

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

MEASURES = ("lpips", "ssim", "psnr")
KEPT = ("lpips", "ssim")  # Of these the least share that is kept counts; PSNR has no upper end.
_SMALLEST = 60  # Pixels: an aligned face fills its image of 112.

Values = npt.NDArray[np.float64]


class Likeness(Scorer):
    """LPIPS, SSIM and PSNR of released targets to the clear ones, and whether a detector still finds the face.

    It scores no attack but the utility of a cloak. ``retention`` is the least, over LPIPS and SSIM, of the share that
    is kept between the floor, whose release shows no face, and the clear image itself.
    """

    version = 1
    title = "likeness of cloaked images"
    metrics = (*MEASURES, "still_detected", "retention")

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """What the cloak releases of the evaluation images, and what the floor does."""
        return {
            "released": graph.release(cell.defense, "evaluation"),
            "floor": graph.release(graph.floor, "evaluation"),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Never called: see ``utility``."""
        raise UserError("the scorer 'likeness' scores what a cloak releases, no attack", "Name another in `measures`.")

    def utility(
        self, inputs: Mapping[str, Arrays], recognizer: Recognizer | None, truth: Truth, bootstrap: Bootstrap
    ) -> tuple[dict[str, Measurement], dict[str, Any]]:
        """Each measure over the targets, the share of faces that are still found, and ``retention``."""
        released = inputs["released"]["images"]
        shown, black = (_measured(images, truth) for images in (released, inputs["floor"]["images"]))
        weights, people = bootstrap.items(truth.targets), bootstrap.people
        out = {name: measurement(name, mean(shown[name], weights)) for name in MEASURES}
        shares = {}
        for name in KEPT:
            itself = np.full_like(shown[name], 0.0 if name == "lpips" else 1.0)
            shares[name] = share_and_draws(shown[name], black[name], itself, weights, name == "lpips")
        least = min(shares, key=lambda name: shares[name][0])
        value, drawn = shares[least]
        out["retention"] = measurement("retention", estimate(value, len(truth.targets), drawn, keep=True))
        try:
            found = mean(_found(released, truth), weights, people)
        except Unavailable as missing:
            found = estimate(None, len(truth.targets), reason=missing.message)
        out["still_detected"] = measurement("still_detected", found)
        return out, {"kept": {name: round(share, 5) for name, (share, _) in shares.items()}, "set_by": least}


def _measured(released: ByteArray, truth: Truth) -> dict[str, Values]:
    """Each measure of the released targets, (n,), against their originals."""
    found: dict[str, list[Values]] = {name: [] for name in MEASURES}
    for part, originals in truth.originals():
        clear, shown = to_float(originals), to_float(np.asarray(released[truth.dataset.targets[part]]))
        for name in MEASURES:
            found[name].append(load_image_metric(name).values(shown, clear))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _found(released: ByteArray, truth: Truth) -> Values:
    """1 for each released target on which the detector finds a face, else 0, (n,).

    Raises:
        Unavailable: the detector is not on this machine.
    """
    images = (released[row].transpose(1, 2, 0) for row in truth.dataset.targets)
    return np.array([bool(find_faces(np.ascontiguousarray(image), _SMALLEST)) for image in images], dtype=np.float64)


SCORER = Likeness
