"""Measure a function as a defense, on twelve synthetic faces. With `suite="quick"` the numbers mean something."""

import torch

import ppfr_bench as pb
from ppfr_bench.api import per_image_generators


def coarse_and_noisy(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The mean colour of each 8x8 square, and separate noise for each image."""
    small = torch.nn.functional.avg_pool2d(images, 8)
    noise = [torch.randn(small.shape[1:], generator=one) for one in per_image_generators(generator, len(images))]
    return torch.nn.functional.interpolate(small + 0.1 * torch.stack(noise), scale_factor=8).clamp(0, 1)


found = pb.evaluate(
    coarse_and_noisy,
    suite="smoke",
    randomness="per_call",  # a claim, which is checked
    attacks=["visual", "ridge"],
    recognizers=["faceplugin"],
    progress=False,
)
print(found)
print(found.table[["defense", "score", "retention", "appearance_privacy"]].to_string(index=False))
