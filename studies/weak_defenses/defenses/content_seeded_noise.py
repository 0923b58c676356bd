"""Content-seeded noise: Gaussian noise that a hash of the image seeds."""

from __future__ import annotations

import hashlib

import torch

from ppfr_bench.api import ByteArray, Defense, DefenseCard, to_bytes

_SIGMA = 0.15  # A share of the range [0, 1].


class ContentSeededNoise(Defense):
    """Plain weak noise: that every release of a photo is the same stops averaging, and no denoiser."""

    version = 1
    card = DefenseCard(
        title="Content-seeded noise",
        family="known weak",
        reference="known-weak control of this benchmark's validity test",
        licence="MIT",
    )

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images plus noise, clipped."""
        noise = torch.stack([torch.randn(images.shape[1:], generator=_seeded(image)) for image in to_bytes(images)])
        return (images + _SIGMA * noise).clamp(0, 1)


def _seeded(image: ByteArray) -> torch.Generator:
    digest = hashlib.blake2b(image.tobytes(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


DEFENSE = ContentSeededNoise
