"""dlib's ResNet, 128-d, compared by distance; runs in torch, as a black box and where an attacker needs gradients."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from ppfr_bench import device
from ppfr_bench.api import SIZE, Recognizer, RecognizerCard, to_bytes
from ppfr_bench.recognizers._dlib_network import CHIP, DlibNetwork, read_weights
from ppfr_bench.recognizers._file import filled_up
from ppfr_bench.recognizers._runtime import check_images, embedded_in_parts

_BATCH = 8  # Images a call, always: in a batch of another size torch's sums come out differently.
_SCALE = 52.6 / 35.24  # The eyes' distance in dlib's chip over that in the aligned crop.
_EYES_CROP, _EYES_CHIP = (55.9, 51.6), (74.0, 47.1)  # The eyes' midpoint, x and y in pixel centres.
_SHIFT = [crop + 0.5 - (mid + 0.5) / _SCALE for crop, mid in zip(_EYES_CROP, _EYES_CHIP, strict=True)]
_MARGIN = 1e-4  # Float32 may lose so much of a grey level before it is cut to a whole one.


def chip(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The chip uint8 (150, 150, 3) of an aligned crop uint8 (3, 112, 112), black where the crop ends.

    One fixed similarity for all images, no detection: a face that no detector finds is still embedded.
    """
    inverse = (1 / _SCALE, 0.0, _SHIFT[0], 0.0, 1 / _SCALE, _SHIFT[1])
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    moved = picture.transform((CHIP, CHIP), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    return np.asarray(moved)


class Surrogate(nn.Module):
    """Chips and network in torch, the weights frozen: float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, 128).

    Crops and chips have whole grey levels, as in ``embed``; gradients pass as if nothing had been rounded.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, network: DlibNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", _sampling(_SHIFT[0]))
        self.register_buffer("rows", _sampling(_SHIFT[1]))

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # Bfloat16 does not hold 255 levels.
            levels = images.float() * 255
            levels = levels + (levels.round() - levels).detach()
            chips = self.rows @ levels @ self.columns.T
            chips = chips + ((chips + _MARGIN).floor() - chips).detach()  # Pillow cuts what is behind the point
        embedded: Tensor = self.network(chips)
        return nn.functional.normalize(embedded.float(), dim=1)


def _sampling(shift: float) -> Tensor:
    """Weights (150, 112) of the crop's rows, or columns, in each of the chip's, as Pillow takes them."""
    place = (torch.arange(CHIP, dtype=torch.float64) + 0.5) / _SCALE + shift
    inside = (place >= 0) & (place < SIZE)
    low = (place - 0.5).floor()
    weights = torch.zeros(CHIP, SIZE, dtype=torch.float64)
    for neighbour, weight in ((low, low + 1.5 - place), (low + 1, place - 0.5 - low)):
        index = neighbour.long().clamp(0, SIZE - 1)[:, None]  # The last pixel stands in beyond the edge.
        weights.scatter_add_(1, index, (weight * inside)[:, None])
    return weights.float()


class DlibResNet(Recognizer):
    """The crop, rounded to 8 bits, mapped to dlib's 150x150 chip -> 128-d, compared by Euclidean distance.

    Embeddings are those of the package dlib to about 1e-6. Eight images a call, so that they depend on no other image.
    Source: dlib_face_recognition_resnet_model_v1.dat in the PyPI package face-recognition-models 0.3.0; King, 2017.

    Raises:
        Unavailable: the weights are missing.
        UserError: the weights are damaged.
    """

    version = 1
    card = RecognizerCard(
        title="dlib ResNet",
        reference="King: High quality face recognition with deep metric learning, dlib.net, 2017",
        licence="CC0",
        code_url="https://github.com/davisking/dlib-models",
        dimension=128,
        metric="euclidean",
        training_data="about 3 million faces of 7,485 people: FaceScrub, VGG Face and others, without LFW's people",
        assets=("dlib_resnet",),
        expected_accuracy={"lfw": 0.98967},
        deviations=("Chips come from the aligned crop by one fixed similarity, not from dlib's own landmarks.",),
    )

    def __init__(self) -> None:
        from ppfr_bench.assets import asset_path

        self._network = DlibNetwork(read_weights(asset_path("dlib_resnet").read_bytes()))

    def embed(self, images: Tensor) -> Tensor:
        crops = to_bytes(check_images(images).detach())
        if not len(crops):
            return torch.empty((0, self.card.dimension))
        network = device.to(self._network)

        def embedded(part: Tensor) -> Tensor:
            chips = torch.from_numpy(np.stack([chip(crop) for crop in part.numpy()])).permute(0, 3, 1, 2)
            with torch.no_grad():
                rows: Tensor = network(filled_up(device.to(chips).to(torch.float32), _BATCH))
            return rows[: len(part)].cpu()  # Embeddings are kept on the CPU, as those of every recognizer.

        return embedded_in_parts(embedded, torch.from_numpy(crops).split(_BATCH))

    def differentiable(self) -> nn.Module:
        """The same network for a white-box surrogate: gradients reach the images, not the weights.

        It lies on the current device. Takes float32 RGB (n, 3, 112, 112) in [0, 1], any n >= 1; gives unit (n, 128):
        the embeddings of ``embed`` at length 1, to about 1e-3.
        """
        return device.to(Surrogate(deepcopy(self._network)))


RECOGNIZER = DlibResNet
