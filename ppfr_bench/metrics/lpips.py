"""Learned perceptual image patch similarity."""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, Metric, MetricInfo, check_images, in_chunks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lpips"]

ASSET = "lpips_alexnet"
_KEPT = 8  # The latest chunks of references whose features are kept: 14 MB each at 112 pixels a side.
_CONVOLUTIONS = ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")


class Lpips(Metric):
    """LPIPS v0.1, AlexNet: weighted squared distance of unit-length features over five layers; 0 = identical.

    The linear heads come with package ``lpips``, the trunk from asset ``lpips_alexnet``. The network
    sees the images in RGB, mapped to [-1, 1], at the size they come in (112x112: state it beside a
    figure, the distance depends on it).

    Raises:
        Unavailable: the asset is not to be had on this machine.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="lpips",
        version=1,
        # Rectified unit vectors are at most 2 apart, squared: twice the heaviest channel of each head.
        range=(0.0, 8.05),
        direction="lower_is_better",
        unit="distance",
        source="Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018; package lpips, v0.1, AlexNet",
        description="Learned perceptual distance of an image from its original",
    )

    def __init__(self) -> None:
        from ppfr_bench.assets import asset_path, load_numpy_pickle

        # The network is frozen; gradients reach the images.
        self.network = _network(load_numpy_pickle(asset_path(ASSET)))
        self._known: OrderedDict[str, list[Tensor]] = OrderedDict()

    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], at least 32 px a side, twice -> (n,), 0 for identical images.

        Raises UserError on any other shape, type or range.
        """
        from ppfr_bench import device

        images, references = check_images("LPIPS", device.to(images), device.to(references), smallest_side=32)
        device.to(self.network)
        return in_chunks(self._distances, images, references)

    def _distances(self, images: Tensor, references: Tensor) -> Tensor:
        """The package's own ``forward``, but that features of references, which all attacks share, are kept."""
        import lpips
        import torch

        average: Any = lpips.spatial_average
        pairs = zip(self._features(images), self._features_of_reference(references), strict=True)
        layers = [head((one - other) ** 2) for head, (one, other) in zip(self.network.lins, pairs, strict=True)]
        return torch.stack([average(layer, keepdim=True).flatten() for layer in layers]).sum(0)

    def _features(self, images: Tensor) -> list[Tensor]:
        import lpips

        normalize: Any = lpips.normalize_tensor
        return [normalize(layer) for layer in self.network.net(self.network.scaling_layer(images.mul(2).sub(1)))]

    def _features_of_reference(self, images: Tensor) -> list[Tensor]:
        # Hashed on the CPU, a copy of 5 MB from an accelerator; the features stay on the device that computed them.
        key = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest() + str(images.device)
        if key not in self._known:
            self._known[key] = self._features(images)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _network(weights: Any) -> Any:
    """The package's network, its trunk filled with convolutions stored as flax does: (h, w, in, out)."""
    import lpips
    import torch

    # The package draws a random trunk first; the caller's random state must not notice.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # lpips passes the old `pretrained`.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        build: Any = lpips.LPIPS
        network = build(net="alex", version="0.1", pnet_rand=True, verbose=False)
    state = {}
    try:
        for number, name in enumerate(_CONVOLUTIONS):
            layer = weights["AlexNet_0"][f"Conv_{number}"]
            kernel = np.ascontiguousarray(np.transpose(layer["kernel"], (3, 2, 0, 1)))
            state[f"{name}.weight"] = torch.from_numpy(kernel)
            state[f"{name}.bias"] = torch.from_numpy(np.array(layer["bias"]))
        network.net.load_state_dict(state, strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"Asset '{ASSET}' does not hold the five AlexNet convolutions LPIPS needs ({error!r:.200}).",
            f"Fetch it anew: ppfr-bench assets fetch {ASSET}",
        ) from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


METRIC = Lpips
