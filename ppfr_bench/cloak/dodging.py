"""What gradient cloaks share: their parameters, and how far an image is from the person on it.

Cloaks are computed image by image: a sign of a gradient turns on its last bits, which depend on the size of a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import nn

from ppfr_bench.api import Config

START = 0  # Seed of the draws of a cloak: they are the same for every image, so that a cloak is deterministic.


class GradientConfig(Config):
    """Parameters of a cloak that follows gradients.

    Attributes:
        budget: largest change of a channel of a pixel, in levels of 255.
        steps: of the ascent.
        recognizers: names of those with gradients that are to be fooled together.
    """

    budget: float = Field(8.0, gt=0, le=255)
    steps: int = Field(5, ge=1)
    recognizers: tuple[str, ...] = Field(("faceplugin",), min_length=1)


def apart(embedded: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the clear embeddings, summed over the images: unit (n, d) twice -> a scalar, to be maximised."""
    return (1 - (embedded * clear).sum(1)).sum()


def mirrored(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Embeddings (n, d) of the mirror images: what a cloak moves away from.

    At the embedding of the image itself the cosine is greatest, and its gradient is zero: no step would have a sign.
    """
    with torch.no_grad():
        embedded: torch.Tensor = network(images.flip(-1))
    return embedded


def one_by_one(images: torch.Tensor, cloak: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """``cloak`` of each image (1, 3, h, w) by itself, with gradients and with torch's randomness from ``START``.

    torch's own random state is afterwards what it was.
    """
    found = []
    for image in images.split(1):
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(START)
            found.append(cloak(image.clone()).detach().clamp(0, 1))
    return torch.cat(found) if found else images.clone()
