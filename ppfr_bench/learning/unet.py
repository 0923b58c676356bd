"""The U-Net of the reconstruction attacks, and its training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ppfr_bench import device

Inputs = torch.Tensor | tuple[torch.Tensor, torch.Tensor]  # Images, or images and the channels of a representation.
Batch = tuple[Inputs, torch.Tensor, torch.Tensor]  # Inputs, estimates and clear images, on the current device.
_UNSHUFFLE = 2  # Blocks of so many pixels a side enter as channels: a quarter of the arithmetic, no worse an answer.
_READ = 128  # Channels between those of a representation and the network's own.
_CHECKS = 2  # Validations during a cycle of training.
_CYCLE = 20  # The shortest cycle, in steps, but for a budget that is shorter.
_RISES = 0.15  # The learning rate rises for this share of a cycle.
_SETTLED = 0.03  # Relative fall of the validation loss over the last half that still counts as converged.


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # The norm is over groups, as running statistics of a batch break on a defense that releases a constant.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.SiLU(),
    )


class UNet(nn.Module):
    """Answers with a correction to an estimate of the clear image; the correction is 0 before training.

    It has five levels, so that the deepest sees the whole face. Skips are added, not concatenated. The channels of a
    representation enter place by place, as neighbours say nothing about what a channel means.

    Source: Ronneberger, Fischer and Brox, MICCAI 2015.

    Args:
        inputs: channels of the images that it is given.
        width: channels of the first level; each level below has twice as many. A multiple of 8.
        channels: of the representation that it is given beside the images; 0 for none.
        finer: how many times coarser than the first level, a side, the grid of the representation is.
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
        """Images (n, inputs, s, s) in [0, 1], s even, alone or with channels (n, c, h, w) in [0, 1] -> (n, 3, s, s)."""
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


@contextmanager
def weights_from(generator: torch.Generator) -> Iterator[None]:
    """Let layers that are made inside draw their first weights from ``generator``, on the CPU.

    torch's own random state is afterwards what it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed every accelerator for good.
        torch.default_generator.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
        yield


def train(
    network: nn.Module, batches: Iterator[Batch], steps: int, learning_rate: float,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], validate: Callable[[], float],
    reached: Callable[[int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train by AdamW in cycles that end at each of ``budgets(steps)``; the best weights that validation met are left.

    Each cycle ends at a learning rate of nearly 0: the network is then what training for so long can give, and the next
    cycle goes on from there. The last one always runs to its end: what brings nothing while the learning rate is high
    may bring most at its end.

    Source: AdamW, Loshchilov and Hutter, ICLR 2019; one-cycle schedule, Smith and Topin 2018; warm restarts, each cycle
    longer than those before, Loshchilov and Hutter, ICLR 2017.

    Args:
        network: inputs -> correction; on the device of the batches.
        batches: endless.
        steps: so many.
        learning_rate: the greatest of the schedule.
        loss: of the answer (estimate plus correction) and the clear images, float32 (n, 3, s, s) twice -> a scalar.
        validate: the loss on held-out people, under the network's present weights.
        reached: told of each of ``budgets(steps)`` as its cycle ends; the network has the best weights until then.

    Returns:
        For the record: ``steps`` taken; ``validation``, (step, loss) from step 0 on; whether it has ``converged``.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4, fused=True)
    curve = [(0, round(validate(), 5))]
    best, kept = curve[0][1], _weights(network)
    start = 0
    for end in (*(budgets(steps) if reached else ()), steps):
        checks = {start + round((end - start) * part / _CHECKS) for part in range(1, _CHECKS + 1)}
        for step in range(start, end):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _rate((step - start + 0.5) / (end - start))
            network.train()
            inputs, estimates, clear = next(batches)
            with device.autocast():
                correction = network(inputs)
            optimizer.zero_grad(set_to_none=True)
            loss(estimates + correction.float(), clear).backward()
            optimizer.step()
            if step + 1 in checks:
                curve.append((step + 1, round(validate(), 5)))
                if curve[-1][1] < best:
                    best, kept = curve[-1][1], _weights(network)
        if reached and end < steps:
            present = _weights(network)
            network.load_state_dict(kept)
            reached(end)
            network.load_state_dict(present)
        start = end
    network.load_state_dict(kept)
    network.eval()
    before = min(value for at, value in curve if at <= steps / 2)
    return {"steps": steps, "validation": curve, "converged": best > (1 - _SETTLED) * before}


def budgets(steps: int) -> tuple[int, ...]:
    """The parts of a budget after which training can be ended: a quarter and a half of it, if that is worth a cycle."""
    return tuple(part for part in (steps // 4, steps // 2) if part >= _CYCLE)


def _rate(progress: float) -> float:
    """The share of the greatest learning rate at a place of a cycle, 0 to 1: it rises for a while, then falls to 0."""
    if progress < _RISES:
        return max(progress / _RISES, 0.04)
    return 0.5 * (1 + math.cos(math.pi * (progress - _RISES) / (1 - _RISES)))


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
