"""Recognizers whose networks were saved for TensorFlow.js; they run in torch."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Recognizer
from ppfr_bench.recognizers._file import filled_up
from ppfr_bench.recognizers._runtime import check_images, embedded_in_parts, unit_rows

_BATCH = 8  # Images a call, always: in a batch of another size torch's sums come out differently.


class TfjsRecognizer(Recognizer):
    """The aligned crop, resized to what the network takes -> one of its nodes at unit length, compared by cosine.

    Eight images a call, so that an embedding depends on no other image.

    Attributes:
        node: name of the node that is the embedding. The card's assets are the graph, then its weights.

    Raises:
        Unavailable: the weights are missing.
        UserError: a damaged file.
    """

    node: ClassVar[str]

    def __init__(self) -> None:
        from ppfr_bench.assets import asset_path
        from ppfr_bench.metrics.tfjs_graph import read_tfjs_graph

        graph, weights = (asset_path(name) for name in self.card.assets)
        self._network = read_tfjs_graph(graph, weights, [self.node])

    @abstractmethod
    def prepared(self, images: Tensor) -> Tensor:
        """float32 RGB (n, 3, h, w) in [0, 255] of the network's size -> the channels and the range that it takes."""

    def embed(self, images: Tensor) -> Tensor:
        pixels = check_images(images).detach()
        if not len(pixels):
            return torch.empty((0, self.card.dimension))
        network = device.to(self._network)

        def embedded(part: Tensor) -> Tensor:
            filled = device.to(filled_up(part, _BATCH)) * 255
            resized = functional.interpolate(filled, network.size[:2], mode="bilinear", align_corners=False)
            with torch.no_grad():
                (rows,) = network(self.prepared(resized).contiguous(memory_format=torch.channels_last))
            return torch.from_numpy(unit_rows(rows[: len(part)].cpu().numpy()))

        return embedded_in_parts(embedded, pixels.split(_BATCH))
