"""Sixteen faces of nobody, shipped with the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from PIL import Image

from ppfr_bench.api import SIZE, Faces
from ppfr_bench.datasets.faces import ArrayFaces

_PEOPLE, _IMAGES = 4, 4


def example_faces() -> Faces:
    """Four synthetic people with four images each, 112x112, in the order of the people.

    Generated as the data set ``synthetic`` is (DCGAN of gan-face-generate 1.1.1, trained on rendered faces of
    DigiFace-1M, MIT; split defender, seed 20241211, variation 0.15), and stored in steps of four levels.
    """
    with files("ppfr_bench.testing").joinpath("faces.png").open("rb") as file, Image.open(file) as sheet:
        pixels = np.asarray(sheet)
    grid = pixels.reshape(_PEOPLE, SIZE, _IMAGES, SIZE, 3).transpose(0, 2, 4, 1, 3)
    images = np.ascontiguousarray(grid).reshape(-1, 3, SIZE, SIZE)
    names = [f"example/{person}/{image}" for person in range(_PEOPLE) for image in range(_IMAGES)]
    return ArrayFaces(images, np.repeat(np.arange(_PEOPLE), _IMAGES), names)
