"""The U-Net that reconstruction starts from on images: trained to undo random image processing on faces.

``studies/pretraining`` trains it; its card says on which faces and how well.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file

from ppfr_bench.api import AttackerView

WIDTH = 24  # Of the network's first level.
WEIGHTS = Path(__file__).with_suffix(".safetensors")
NOT_FOR = ("cfp",)  # Data sets that measure people whose photographs it was trained on.


def has_pretrained(view: AttackerView, width: int) -> bool:
    """Whether a network of this width can start from the weights: on images of people who are not in them."""
    return view.releases_image and width == WIDTH and view.photographs_of not in NOT_FOR


@cache
def pretrained_weights() -> dict[str, torch.Tensor]:
    """The weights of a ``UNet`` of that width as they ship, in single precision, on the CPU; not to be written."""
    return {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
