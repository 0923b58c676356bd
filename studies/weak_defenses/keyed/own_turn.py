"""Own turn: every image is turned by quarters and mirrored, by a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnTurn(Defense):
    """There are six ways, and a face is upright in one or two of what can come back."""

    version = 1
    card = DefenseCard(
        title="Turned and mirrored by a key of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Turned by one, two or three right angles, and half of them mirrored."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            quarters, mirrored = torch.randint(1, 4, (), generator=own), torch.randint(2, (), generator=own)
            turned = image.rot90(int(quarters), (1, 2))
            found.append(turned.flip(2) if mirrored else turned)
        return torch.stack(found)


DEFENSE = OwnTurn
