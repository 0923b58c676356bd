"""Own row order: the rows of every image change places, by a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnRowOrder(Defense):
    """Neighbouring rows of a face are alike, so the order can be found again without any key."""

    version = 1
    card = DefenseCard(
        title="Rows in an order of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The rows in another order."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            found.append(image[:, torch.randperm(image.shape[1], generator=own)])
        return torch.stack(found)


DEFENSE = OwnRowOrder
