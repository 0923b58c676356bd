"""Learned perceptual image patch similarity."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.base import FloatArray, Metric, MetricInfo, check_images

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lpips"]

ASSET = "lpips_alexnet"
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

    def values(self, images: Tensor, references: Tensor) -> FloatArray:
        """float32 (n, 3, h, w) in [0, 1], at least 32 px a side, twice -> (n,), 0 for identical images.

        Raises UserError on any other shape, type or range.
        """
        import torch

        from ppfr_bench import device

        images, references = check_images("LPIPS", device.to(images), device.to(references), smallest_side=32)
        if len(images) == 0:
            return np.empty(0)
        network = device.to(self.network)
        with torch.inference_mode():
            pair = (batch.to(memory_format=torch.channels_last).mul(2).sub(1) for batch in (images, references))
            distances = network(*pair).flatten()
        return np.asarray(distances.cpu().numpy(), dtype=np.float64)


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
