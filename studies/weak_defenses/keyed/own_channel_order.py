"""Own channel order: red, green and blue change places, by a key of each image's own."""

from __future__ import annotations

from itertools import permutations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators

ORDERS = tuple(permutations(range(3)))[1:]  # None leaves the image as it is.


class OwnChannelOrder(Defense):
    """Five orders are not that of the image, and skin is red in few of what can come back."""

    version = 1
    card = DefenseCard(
        title="Channels in an order of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The channels in another order."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            found.append(image[list(ORDERS[int(torch.randint(5, (), generator=own))])])
        return torch.stack(found)


DEFENSE = OwnChannelOrder
