"""Own negative: half of the images are negatives, and the channels change places, by a key of each image's own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnNegative(Defense):
    """There are twelve ways, and a face looks like one in few of them."""

    version = 1
    card = DefenseCard(
        title="Negative or not, channels swapped, by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The channels in another order, and every other image inverted."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            ordered = image[torch.randperm(3, generator=own)]
            found.append(1 - ordered if torch.randint(2, (), generator=own) else ordered)
        return torch.stack(found)


DEFENSE = OwnNegative
