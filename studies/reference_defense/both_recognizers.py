"""One recognizer that reads a face as the face renderer does, and its mirror image: for an attack on that defense.

The face renderer draws from embeddings of ``faceplugin`` and ``dlib_resnet``, mirrored or not. Who reads a release as
this recognizer does has all of both embeddings that came through, whichever way the release was mirrored.
"""

from __future__ import annotations

import torch
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.recognizers import recognizer_class
from ppfr_bench.recognizers.ensemble import ensemble

READ = ("faceplugin", "dlib_resnet")


class Both(nn.Module):
    """Unit embeddings side by side, of the image plus of its mirror image, at length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ensemble(READ)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> unit (n, 640)."""
        return nn.functional.normalize(self.network(images) + self.network(images.flip(3)), dim=1)


class BothRecognizers(Recognizer):
    """See the module."""

    version = 1
    card = RecognizerCard(
        title="faceplugin and dlib, and their mirror images",
        reference="studies/reference_defense/both_recognizers.py",
        licence="MIT",
        dimension=640,
        metric="cosine",
        training_data="that of both",
        assets=tuple(asset for name in READ for asset in recognizer_class(name).card.assets),
    )

    def __init__(self) -> None:
        self._network = Both().eval()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> unit (n, 640) on the CPU."""
        with torch.no_grad():
            embedded: torch.Tensor = device.to(self._network)(device.to(images))
        return embedded.cpu()  # As those of every recognizer.

    def differentiable(self) -> nn.Module:
        """The same, with gradients to the images."""
        return device.to(self._network)


RECOGNIZER = BothRecognizers
