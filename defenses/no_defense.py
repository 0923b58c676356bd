"""No defense at all: the upper end of utility and of every attack."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard


class NoDefense(Defense):
    """Releases what it is given. Every attack must reach its ceiling here; a smaller one is under-trained."""

    version = 1
    card = DefenseCard(
        title="No defense",
        plain="Releases the photo unchanged. It marks the best possible usefulness, and what every attack reaches "
        "where nothing is protected.",
        family="control",
        reference="control of this benchmark",
        licence="MIT",
        control=True,
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images, copied."""
        return images.clone()


DEFENSE = NoDefense
