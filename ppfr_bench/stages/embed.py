"""Embeddings of clear and of released images, by a recognizer as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ppfr_bench.api import ByteArray, Faces
from ppfr_bench.stages.context import Context, chunks
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer

CALIBRATION_IDENTITIES = 100


def embed(job: Job, inputs: Mapping[str, Output], context: Context, writer: Writer) -> None:
    """``embeddings`` float32 (n, d) of what is released, rendered where it is no image; or of clear images.

    Of clear images ``of`` says which: ``evaluation``, ``canary``, or ``calibration``, which are two photos of each of
    some of the attacker's people.
    """
    embedder = context.embedder(job.spec["recognizer"]["name"])
    parts = [embedder.embed(batch) for batch in _batches(job, inputs, context)]
    writer.save("embeddings", np.concatenate(parts).astype(np.float32))


def _batches(job: Job, inputs: Mapping[str, Output], context: Context) -> Iterator[ByteArray]:
    if "released" in inputs:
        render = context.render(job.spec["defense"])
        yield from map(render, chunks(inputs["released"]["images"], context.batch))
    elif job.spec["of"] == "calibration":
        faces = context.dataset.attacker
        yield from (faces.load(rows) for rows in chunks(_two_of_each(faces), context.batch))
    else:
        faces = context.dataset.evaluation if job.spec["of"] == "evaluation" else context.dataset.canary[0]
        yield from faces.batches(context.batch)


def _two_of_each(faces: Faces) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of the first photo of each person who has two or more, then of their second."""
    order = np.argsort(faces.identities, kind="stable")
    _, first, counts = np.unique(faces.identities[order], return_index=True, return_counts=True)
    starts = first[counts >= 2][:CALIBRATION_IDENTITIES]
    return np.concatenate([order[starts], order[starts + 1]])
