"""No face: the floor of recognition and of likeness."""

from __future__ import annotations

import torch

from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak


class NoFace(Cloak):
    """Releases a black image, as ``blackout`` does for images that are no cloaks."""

    version = 1
    card = DefenseCard(
        title="No face",
        plain="Releases a black image. It marks how well faces are recognised where no face is left.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Zeros of the same shape."""
        return torch.zeros_like(images)


DEFENSE = NoFace
