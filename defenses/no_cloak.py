"""No cloak: the ceiling of recognition and of likeness."""

from __future__ import annotations

import torch

from ppfr_bench.api import DefenseCard
from ppfr_bench.cloak.api import Cloak


class NoCloak(Cloak):
    """Releases the clear image. What a recognizer makes of it is the ceiling of every cloak."""

    version = 1
    card = DefenseCard(
        title="No cloak",
        plain="Releases the photo unchanged. It marks how well faces are recognised where no cloak is used.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images as they are."""
        return images.clone()


DEFENSE = NoCloak
