"""Transferable attacks of the package torchattack, on embeddings of faces instead of classes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.errors import Unavailable

EXTRA = "cloak"
_KERNEL, _SIGMAS = 7, 3  # Of the smoothed gradients: a face of 112 pixels has half the detail of the paper's images.

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def torchattack() -> Any:
    """The package.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        return import_module("torchattack")
    except ImportError as error:
        raise Unavailable(
            f"this cloak needs the package torchattack: {error}", f"pip install 'ppfr-bench[{EXTRA}]'"
        ) from error


def library_attack(name: str, network: nn.Module, loss: Loss, **parameters: Any) -> Any:
    """An attack of the package by its name, which raises ``loss`` of the network's answer.

    Args:
        name: such as ``PGD`` or ``MIFGSM``.
        network: float32 images (n, 3, h, w) in [0, 1] -> unit (n, d), on the current device.
        loss: of answers and what is handed over with the images, (n, d) each -> a scalar.
        parameters: of the attack; ``eps`` and ``alpha`` in [0, 1].

    Returns:
        A callable: images (n, 3, h, w) and unit (n, d) -> images within ``eps``.

    Raises:
        Unavailable: the package is not installed.
    """
    attack = getattr(torchattack(), name)(network, device=device.current(), **parameters)
    attack.lossfn = loss
    return attack


class Diverse(nn.Module):
    """A network that is shown the image in another size and place each time, and whose gradients are smoothed.

    Both make what fools this network fool others too. Draws are of torch's own random state.

    Source: input diversity, Xie et al., CVPR 2019; translation invariance, Dong et al., CVPR 2019.

    Args:
        network: images (n, 3, h, w) -> (n, d).
        rate: the smallest size, as a share of the image's.
    """

    kernel: torch.Tensor

    def __init__(self, network: nn.Module, rate: float) -> None:
        super().__init__()
        self.network, self.rate = network, rate
        weights = import_module("torchattack.tifgsm").TIFGSM.gkern(_KERNEL, _SIGMAS)
        self.register_buffer("kernel", torch.from_numpy(weights)[None, None].repeat(3, 1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> (n, d)."""
        if images.requires_grad:
            images.register_hook(self._smoothed)
        shown = import_module("torchattack.difgsm").input_diversity(images, self.rate, 1.0)
        embedded: torch.Tensor = self.network(shown)
        return embedded

    def _smoothed(self, gradient: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(gradient, self.kernel, padding=_KERNEL // 2, groups=3)
