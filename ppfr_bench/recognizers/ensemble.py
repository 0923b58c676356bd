"""Several recognizers with gradients, as one network: what cloaks fool together, and what a defense reads."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device, global_randomness
from ppfr_bench.api import SIZE, Differentiable
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers import load_recognizer


class Ensemble(nn.Module):
    """Several recognizers as one: their unit embeddings side by side, scaled so that the whole has length 1.

    The product of two such embeddings is the mean cosine over the recognizers.
    """

    def __init__(self, networks: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> unit (n, d); images of another size are seen at 112 pixels a side."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = functional.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        found = torch.cat([network(images) for network in self.networks], dim=1)
        scaled: torch.Tensor = found / len(self.networks) ** 0.5
        return scaled


def ensemble(names: tuple[str, ...]) -> Ensemble:
    """The recognizers of these names, with gradients to the images, on the current device.

    Raises:
        UserError: one of them has no gradients.
        Unavailable: the weights of one are missing.
    """
    return Ensemble(tuple(_network(name, str(device.current())) for name in names))


@cache
def _network(name: str, where: str) -> nn.Module:
    with global_randomness.kept():  # Layers draw weights before theirs are filled in, and a converter draws too.
        recognizer = load_recognizer(name)
        network = recognizer.differentiable() if isinstance(recognizer, Differentiable) else None
    if network is None:
        raise UserError(f"expected recognizers with gradients, '{name}' has none", "Choose faceplugin or dlib_resnet.")
    return device.to(network.eval().requires_grad_(False))
