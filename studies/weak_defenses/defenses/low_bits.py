"""Low bits: the upper four bits of the face, hidden in the lower four under random upper ones."""

from __future__ import annotations

import torch

from ppfr_bench.api import Defense, DefenseCard, per_image_generators


class LowBits(Defense):
    """Looks like noise, and is the face at sixteen levels to whoever takes the value modulo 16."""

    version = 1
    card = DefenseCard(
        title="Face in the low bits",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
        randomness="per_call",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """16 x noise + x // 16, byte by byte."""
        hidden = (images * 255).round().long() // 16
        keys = per_image_generators(generator, len(images))
        noise = torch.stack([torch.randint(16, images.shape[1:], generator=key) for key in keys])
        return (16 * noise + hidden).float() / 255


DEFENSE = LowBits
