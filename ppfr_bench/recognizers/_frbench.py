"""``frbench:BACKBONE_LOSS_DATASET``: the differentiable PyTorch recognizers of the package ``frbench``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import RecognizerCard
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.recognizers._external import ExternalModel, ExternalRecognizer, folder_of, label_of, sha256_of
from ppfr_bench.recognizers._runtime import check_images, require
from ppfr_bench.text import printable


class Pipeline(nn.Module):
    """frbench's preprocessing, backbone and mean over the mirrored image: float32 RGB in [0, 1] -> unit (n, d)."""

    def __init__(self, recognizer: Any) -> None:
        super().__init__()
        self.recognizer = recognizer.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        package = require("frbench", "frbench")
        with package.configure_scoped(warnings=False):  # The package takes a dark image for one in [0, 1].
            return functional.normalize(self.recognizer(images * 255, need_crop=False).embeddings, dim=1)


class FRBenchModel(ExternalModel):
    """Aligned crops as they are, its detector not run; one image a call, as torch's sums depend on the batch."""

    def __init__(self, card: RecognizerCard, pipeline: Pipeline) -> None:
        super().__init__(card)
        self._pipeline = pipeline

    def embed(self, images: Tensor) -> Tensor:
        given, pipeline = device.to(check_images(images).detach()), device.to(self._pipeline)
        with torch.no_grad():
            rows = [pipeline(given[index : index + 1]).cpu() for index in range(len(given))]
        return torch.cat(rows) if rows else torch.empty((0, self.card.dimension))

    def differentiable(self) -> nn.Module:
        """The same network, for a white-box surrogate: gradients reach the images, not the weights."""
        return device.to(self._pipeline)


def resolve(model: str) -> ExternalRecognizer:
    """A model by its key in frbench's manifest; its weights and their settings are hashed.

    frbench fetches both on first use from its own address, into ``frbench`` in this project's cache (FRBENCH_CACHE
    moves that), and reads the weights with ``weights_only=True``.

    Raises:
        UserError: the manifest has no such model, or the name is no such key.
        Unavailable: the manifest or the weights cannot be had on this machine.
    """
    cache = folder_of("FRBENCH_CACHE", "frbench")
    package = require("frbench", "frbench")
    parts = model.rsplit("_", 2)
    if len(parts) != 3:
        raise UserError(
            f"frbench:{model}: expected BACKBONE_LOSS_DATASET", "For example:  frbench:irse-50_arcface_ms1m"
        )
    try:
        asset = package.get_asset(model)
        recognizer = package.FR(*parts, eager_load=True)
    except package.FRBenchAssetNotFoundError as error:
        raise UserError(f"frbench has no model '{model}'", str(error)) from error
    except Exception as error:  # The network, torch and the package raise their own.
        raise Unavailable(
            f"frbench cannot load {model}: {type(error).__name__}: {error}",
            f"Fetch it where its release can be reached:  FRBENCH_CACHE={printable(cache)} frbench-download {model}",
        ) from error
    backbone, loss, dataset = parts
    card = RecognizerCard(
        title=f"frbench {backbone}, {loss}", reference="Wang, Yang, Lu, Chow: Protego, CVPR 2026; frbench",
        licence="MIT (of the package)", code_url="https://github.com/HKU-TASR/FRBench",
        dimension=recognizer.embedding_dim, metric="cosine", training_data=dataset,
    )  # fmt: skip
    folder, contents = Path(asset["path"]), asset["contents"]
    identity = {
        "package": "frbench", "version": version("frbench"), "model": model,
        "weights": sha256_of(folder / contents["weight"]), "config": sha256_of(folder / contents["config"]),
    }  # fmt: skip
    return ExternalRecognizer(
        label_of("frbench", model), card, identity, lambda: FRBenchModel(card, Pipeline(recognizer))
    )
