"""The U-Net of the reconstruction attacks, and its training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Inputs = torch.Tensor | tuple[torch.Tensor, torch.Tensor]  # images, or images and the channels of a representation
Batch = tuple[Inputs, torch.Tensor, torch.Tensor]
_UNSHUFFLE = 2  # blocks of so many pixels a side enter as channels: a quarter of the arithmetic, and no worse an answer
_READ = 128  # channels between those of a representation and the network's own
_CHECKS = 8  # validations during training
_PATIENCE = 3  # of them without a better one, and training stops
_SETTLED = 0.03  # relative fall of the validation loss over the last quarter that still counts as converged


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # Group norm: batch norm's running statistics break on a defense that releases a constant.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.SiLU(),
    )


class UNet(nn.Module):
    """(n, inputs, s, s) in [0, 1] -> (n, 3, s, s): a correction to a first answer, zero before training; 2 divides s.

    Five levels, so that the deepest sees the whole face. Skips are added, not concatenated. The channels of a
    representation, (n, channels, h, w), enter place by place, as what they mean depends on no neighbour; a grid coarser
    than the network's is made ``finer`` so many times.
    """

    def __init__(self, inputs: int, width: int, channels: int = 0, finer: int = 1) -> None:
        super().__init__()
        self.finer = finer
        self.read = None
        if channels:
            outputs = width * finer**2
            self.read = nn.Sequential(nn.Conv2d(channels, _READ, 1), nn.SiLU(), nn.Conv2d(_READ, outputs, 1))
        widths = [width * 2**level for level in range(5)]
        self.enter = nn.Conv2d(inputs * _UNSHUFFLE**2, width, 1)
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([width, *widths[:-1]], widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(b, b) for b in widths[-2::-1])
        self.out = nn.Conv2d(width, 3 * _UNSHUFFLE**2, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        images, blocks = inputs if isinstance(inputs, tuple) else (inputs, None)
        squares = functional.pixel_unshuffle(images * 2 - 1, _UNSHUFFLE)
        features, skips = self.enter(squares.contiguous(memory_format=torch.channels_last)), []
        if self.read is not None and blocks is not None:
            features = features + functional.adaptive_avg_pool2d(
                functional.pixel_shuffle(self.read(blocks * 2 - 1), self.finer), features.shape[-2:]
            )
        for level, block in enumerate(self.down):
            features = block(functional.avg_pool2d(features, 2) if level else features)
            skips.append(features)
        for narrow, block, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            features = block(functional.interpolate(narrow(features), size=skip.shape[-2:]) + skip)
        return functional.pixel_shuffle(self.out(features), _UNSHUFFLE)


def mixed_precision() -> AbstractContextManager[Any]:
    """bf16 autocast where the processor multiplies it, full precision elsewhere."""
    supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=supported)


def train(
    network: nn.Module, batches: Iterator[Batch], steps: int, learning_rate: float,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], validate: Callable[[], float],
) -> dict[str, Any]:  # fmt: skip
    """AdamW under a one-cycle schedule on batches of (inputs, first answer, clear); keeps the best weights met.

    ``loss`` is of the answer, first plus correction, and the clear images; ``validate`` the loss on held-out people.
    Stops early once three validations in a row brought nothing better.

    Returns:
        For the record: steps taken, validation curve, whether it has converged.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2), pct_start=0.15)
    curve = [(0, round(validate(), 5))]
    best, kept = curve[0][1], _weights(network)
    every, waited, step = max(1, steps // _CHECKS), 0, 0
    for step in range(1, steps + 1):
        network.train()
        inputs, first, clear = next(batches)
        with mixed_precision():
            correction = network(inputs)
        optimizer.zero_grad(set_to_none=True)
        loss(first + correction.float(), clear).backward()
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            curve.append((step, round(validate(), 5)))
            waited += 1
            if curve[-1][1] < best:
                best, kept, waited = curve[-1][1], _weights(network), 0
            if waited == _PATIENCE:
                break
    network.load_state_dict(kept)
    network.eval()
    before = min(value for at, value in curve if at <= 0.75 * step)
    return {"steps": step, "validation": curve, "converged": best > (1 - _SETTLED) * before}


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
