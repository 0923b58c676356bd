"""The face renderer: a face that is drawn from what two recognizers read of a photo, and from nothing else of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, Defense, DefenseCard, Randomness, per_image_generators
from ppfr_bench.learning.unet import weights_from
from ppfr_bench.recognizers.ensemble import ensemble

from . import _draws
from ._renderer_network import RECOGNIZERS, RendererNetwork, read

WEIGHTS = Path(__file__).with_suffix(".safetensors")
_BATCH = 8


class FaceRendererConfig(Config):
    """``draws``: one for each photo, from the ``secret`` key and its coarse look, or a fresh one at every ``call``."""

    draws: Literal["photo", "call"] = "photo"
    secret: int = Field(0, ge=0, lt=2**512)


class FaceRenderer(Defense):
    """The other design of the reference defense.

    Two recognizers read the photo. A network that was trained draws the detail of a face from their embeddings, on
    random light, colour and background, mirrored or not, and turned, scaled and shifted at random. So no attack can
    rebuild more of the photo than the embeddings hold, however many releases it gets. Who it is, they do tell. An
    attacker may know all but the draws.
    """

    version = 1
    training = "ppfr_bench.defenses._renderer_training:RendererTraining"
    card = DefenseCard(
        title="Face rendered from embeddings",
        plain="Draws a new face from the lists of numbers that two face recognizers compute of the photo, in random"
        " light and before a random background. Recognizers still name the person; the photo itself is not used.",
        family="local features",
        reference="ppfr-bench: studies/reference_defense",
        licence="MIT",
        randomness="per_session_key",
        training_data="4,000 images of 2,000 synthetic identities of the defender (DigiFace GAN); no real person",
        weights_sha256="6d8dc4cc3b8e98429b9bf5bf472b5d3dfc680c1b6da9077e79e9014fd6709d3a",
        deviations=(
            "The evaluation's secret key is one the attacker may query, never read.",
            "It reads faceplugin and dlib_resnet, which count as seen and have no part in its retention.",
            "A few dozen images a second on one core: two recognizers read every photo.",
        ),
    )
    Config = FaceRendererConfig

    @property
    def randomness(self) -> Randomness:
        """``per_call`` if every call draws anew."""
        return "per_session_key" if self.config.draws == "photo" else "per_call"

    @property
    def seen(self) -> tuple[str, ...]:
        """Those that it reads."""
        return RECOGNIZERS

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same, h and w at least 4; it reads and draws 112 pixels a side."""
        c = self.config
        fresh = c.draws == "call"
        keys = per_image_generators(generator, len(images)) if fresh else _draws.photo_generators(c.secret, images)
        recognizers, network = ensemble(RECOGNIZERS).networks, _network.on(images.device)
        released = []
        for start in range(0, len(images), _BATCH):
            photos = _sized(images[start : start + _BATCH], (SIZE, SIZE))
            drawn = network.draw(keys[start : start + _BATCH])
            faces = network.compose(network.detail(network.person(read(recognizers, photos))), drawn)
            released.append(_sized(faces, (images.shape[2], images.shape[3])))
        return torch.cat(released) if released else images.clone()


def _sized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images (n, 3, h, w) at another height and width; themselves where they have it."""
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", align_corners=False)


@device.per_device
def _network() -> RendererNetwork:
    with weights_from(torch.Generator()):  # Layers draw weights when they are made, which the file then replaces.
        network = RendererNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


DEFENSE = FaceRenderer
