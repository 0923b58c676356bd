"""Own shift: every image is shifted cyclically, by a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnShift(Defense):
    """What leaves the image on one side comes in on the other, and the mean face tells where it was."""

    version = 1
    card = DefenseCard(
        title="Shifted by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Shifted by any number of rows and columns."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            down, right = (int(torch.randint(side, (), generator=own)) for side in image.shape[1:])
            found.append(image.roll((down, right), (1, 2)))
        return torch.stack(found)


DEFENSE = OwnShift
