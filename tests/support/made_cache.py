"""What tests keep in a cache: a recognizer that is quick, random images, and a stage."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from ppfr_bench.api import ByteArray, Recognizer, RecognizerCard
from ppfr_bench.stages.store import Output, Writer


class ColourGrid(Recognizer):
    """Mean colour of 4x4 cells, 48-d: real, and quick enough to test the store with; remembers what it was asked."""

    version = 1
    card: ClassVar[RecognizerCard] = RecognizerCard(
        title="Colour grid", reference="none", licence="MIT", dimension=48, metric="cosine", training_data="none"
    )

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        return torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1), dim=1)


def noise(n: int, seed: int = 0) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 112, 112), dtype=np.uint8)


def squares(writer: Writer) -> None:
    """A stage with a small array, a large one that is mapped, and notes."""
    writer.save("small", np.arange(6, dtype=np.float32).reshape(2, 3) ** 2)
    writer.open("large", (300, 1000), np.float64)[:] = np.arange(300_000).reshape(300, 1000) ** 2
    writer.meta |= {"note": {"a": 0.1, "b": [1, 2]}, "pair": (1, 2)}


def same(found: Output | None) -> bool:
    """Whether it is what ``squares`` computes."""
    return (
        found is not None
        and found["small"].dtype == np.float32
        and found["small"].tolist() == [[0, 1, 4], [9, 16, 25]]
        and bool((found["large"] == np.arange(300_000).reshape(300, 1000) ** 2).all())
        and found.meta["note"] == {"a": 0.1, "b": [1, 2]}
        and found.meta["pair"] == [1, 2]
        and sorted(found) == ["large", "small"]
    )
