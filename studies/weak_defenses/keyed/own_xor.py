"""Own xor: all bytes of an image are xored with one byte, a key of its own."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class OwnXor(Defense):
    """There are 255 bytes, and a face is smooth under one of them."""

    version = 1
    card = DefenseCard(
        title="Bytes xored with one of each image's own",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Bits that are flipped in every pixel alike, one of the upper two among them."""
        found = []
        for image, own in zip(images, per_image_generators(generator, len(images)), strict=True):
            byte = torch.randint(64, 256, (), generator=own).to(torch.uint8)
            found.append(torch.bitwise_xor((image * 255).round().to(torch.uint8), byte).to(image.dtype) / 255)
        return torch.stack(found)


DEFENSE = OwnXor
