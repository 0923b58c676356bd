"""Own negative: half of the images are negatives, and the channels change places, by a key of each image's own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnNegative(Defense):
    """There are five ways, and skin has its colour in one of what can come back."""

    version = 1
    card = DefenseCard(
        title="Negative or not, channels swapped, by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The channels moved on by none, one or two, and some images inverted: none is as it was."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            order, inverted = torch.randint(3, (), generator=own), torch.randint(2, (), generator=own)
            ordered = image.roll(int(order), 0)
            found.append(1 - ordered if inverted or order == 0 else ordered)
        return torch.stack(found)


DEFENSE = OwnNegative
