"""What attacks of the contract tests learn from, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from ppfr_bench import testing
from ppfr_bench.api import ByteArray, Faces, to_bytes, to_float
from ppfr_bench.datasets.faces import ArrayFaces


@pytest.fixture(scope="session")
def crowd() -> tuple[Faces, ByteArray]:
    """Faces enough to learn from, random mixtures of the example faces: 120 people of two images, and 12 more."""
    faces, generator = testing.example_faces(), torch.Generator().manual_seed(5)
    basis = to_float(faces.load(range(len(faces))))
    weights = torch.rand(132, len(basis), generator=generator).softmax(1) * 3
    light = functional.interpolate(torch.rand(132, 3, 4, 4, generator=generator), size=112, mode="bicubic")
    people = (torch.einsum("np,pchw->nchw", weights, basis) / 3 * (0.5 + light)).clamp(0, 1)
    images = to_bytes(torch.cat([people[:120], people[:120].flip(3)]))
    return ArrayFaces(images, np.tile(np.arange(120), 2), [str(i) for i in range(240)]), to_bytes(people[120:])


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
