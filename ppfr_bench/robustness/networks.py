"""The small network that surrogates are: cheap enough for a thousand noisy looks at an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SIDE", "SmallNetwork"]

SIDE = 56  # It looks at images of so many pixels a side.
_FEATURES = 128


class _Block(nn.Module):
    """Two convolutions with a residual."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, values: Tensor) -> Tensor:
        inner = torch.relu(self.first_norm(self.first(values)))
        return torch.relu(self.second_norm(self.second(inner)) + self.skip(values))


class SmallNetwork(nn.Module):
    """float32 (n, 3, 56, 56) -> logits (n, classes), about 0.3 million weights.

    Args:
        width: channels of the first of four levels.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2), _Block(4 * width, 4 * width, 1)
        )
        self.project = nn.Linear(4 * width * 9, _FEATURES)
        self.head = nn.Linear(_FEATURES, classes)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """(n, 128), before the last layer."""
        values = (images - 0.5).contiguous(memory_format=torch.channels_last)
        values = torch.relu(self.stem_norm(self.stem(values)))
        pooled = functional.adaptive_avg_pool2d(self.blocks(values), 3)
        projected: Tensor = self.project(pooled.flatten(1))
        return projected

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.features(images)))
        return logits
