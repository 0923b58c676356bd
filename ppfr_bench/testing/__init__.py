"""For tests without a download: sixteen synthetic faces, and a recognizer without weights."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ppfr_bench.api import SIZE, Faces, Recognizer, RecognizerCard
from ppfr_bench.datasets.faces import ArrayFaces

IDENTITIES, IMAGES = 4, 4


def example_faces() -> Faces:
    """Four synthetic people, four images each, of the data set ``synthetic`` (its weights: MIT)."""
    with resources.files(__name__).joinpath("faces.png").open("rb") as file, Image.open(file) as sheet:
        pixels = np.asarray(sheet)
    rows = pixels.reshape(IDENTITIES, SIZE, IMAGES, SIZE, 3).transpose(0, 2, 4, 1, 3)
    images = np.ascontiguousarray(rows.reshape(-1, 3, SIZE, SIZE))
    identities = np.repeat(np.arange(IDENTITIES), IMAGES)
    return ArrayFaces(images, identities, [f"person {i // IMAGES}, image {i % IMAGES}" for i in range(len(images))])


class TinyRecognizer(Recognizer):
    """The low frequencies of the luma, without its mean: knows the example people apart, and nobody else."""

    version = 1
    card = RecognizerCard(
        title="Tiny recognizer", reference="for tests of this benchmark", licence="MIT", dimension=255, metric="cosine",
        training_data="none",
    )  # fmt: skip

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        small = functional.adaptive_avg_pool2d((images * weights).sum(1, keepdim=True), 16).flatten(1)
        return functional.normalize((small - small.mean(1, keepdim=True))[:, 1:], dim=1)
