"""The U-Net of the reconstruction attacks, and its training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Batch = tuple[torch.Tensor, torch.Tensor]


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
    """(n, inputs, s, s) in [0, 1] -> (n, 3, s, s): a correction to a first answer, zero before training; 8 divides s.

    Skips are added, not concatenated: two thirds of the arithmetic, at the same width.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([inputs, *widths[:-1]], widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(b, b) for b in widths[-2::-1])
        self.out = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features, skips = images * 2 - 1, []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if level else features)
            skips.append(features)
        for narrow, block, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            features = block(functional.interpolate(narrow(features), scale_factor=2.0) + skip)
        correction: torch.Tensor = self.out(features)
        return correction


def mixed_precision() -> AbstractContextManager[Any]:
    """bf16 autocast where the processor multiplies it, full precision elsewhere."""
    supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=supported)


def train(
    network: nn.Module, batches: Iterator[Batch], steps: int, learning_rate: float,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    after_step: Callable[[int], None] = lambda step: None,
) -> None:  # fmt: skip
    """AdamW under a one-cycle schedule, for ``steps`` batches of (input, target), both channels_last."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=max(steps, 2), pct_start=0.15)
    network.train()
    for step in range(1, steps + 1):
        inputs, targets = next(batches)
        with mixed_precision():
            predicted = network(inputs)
        optimizer.zero_grad(set_to_none=True)
        loss(predicted.float(), targets).backward()
        optimizer.step()
        schedule.step()
        after_step(step)
