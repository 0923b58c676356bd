"""Own offset: a number is added to each channel of every image modulo 256, by a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnOffset(Defense):
    """There are 256 numbers a channel, and a face has smooth skin under one of them."""

    version = 1
    card = DefenseCard(
        title="A number added modulo 256, of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Levels that wrap around."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            offset = torch.randint(16, 241, (3, 1, 1), generator=own)
            found.append(((image * 255).round() + offset) % 256 / 255)
        return torch.stack(found)


DEFENSE = OwnOffset
