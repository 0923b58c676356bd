"""Answers that ignore the target: the mean of the attacker's own faces, sharp and softened, and typical ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ppfr_bench.api import SIZE
from ppfr_bench.stages.context import Context
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer

SIGMAS = (0, 1, 2, 4)  # Pixels; Gaussians of these widths soften the mean face.


FACES = 8  # So many of the attacker's own are nearest to their mean: each is an answer to every target.


def mean_faces(job: Job, inputs: Mapping[str, Output], context: Context, writer: Writer) -> None:
    """``answer`` uint8 (k, 3, 112, 112), the mean of the attacker's own images under each sigma; then typical images.

    Some measures prefer softened ones: a rebuilding that is only as smooth has learnt nothing. LPIPS prefers sharp
    ones: any face at all is nearer to a face than their mean. These are the images that differ least from the mean.
    """
    from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined]  # SciPy has no types.

    faces, total = context.dataset.attacker, np.zeros((3, SIZE, SIZE))
    for batch in faces.batches(context.batch):
        total += batch.sum(axis=0, dtype=np.float64)
    soft = [gaussian_filter(total / len(faces), (0, sigma, sigma)) for sigma in job.spec["sigmas"]]
    distances = [np.square(batch - total / len(faces)).sum(axis=(1, 2, 3)) for batch in faces.batches(context.batch)]
    typical = np.argsort(np.concatenate(distances), kind="stable")[: job.spec["faces"]]
    writer.save("answer", np.concatenate([np.stack(soft).round().astype(np.uint8), faces.load(typical)]))
