"""The stochastic local-feature anonymizer: what recognizers read of a face, on the low frequencies of nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file

from ppfr_bench import device
from ppfr_bench.api import Config, Defense, DefenseCard, Randomness, per_image_generators

from . import _draws
from ._local_generator import LocalGenerator

WEIGHTS = Path(__file__).with_suffix(".safetensors")


class StochasticAnonymizerConfig(Config):
    """Parameters of the reference defense.

    ``strength``: the dial, from nearly all local features (0) to the few that recognizers need most (1); ``draws``: one
    for each photo, from the ``secret`` key and the photo's coarse look, or a fresh one at every ``call``.
    """

    strength: float = Field(0.35, ge=0, le=1)
    draws: Literal["photo", "call"] = "photo"
    secret: int = Field(0, ge=0, lt=2**512)


class StochasticAnonymizer(Defense):
    """The reference defense.

    The luma is cut into three bands of local contrast; brightness, colour and large shapes are dropped. Gates that were
    trained decide what of each band is kept where. What is kept is moved and disturbed by random draws, and put upon
    low frequencies that are drawn, too, among those of a crowd of synthetic faces. A secret key fixes the draws of each
    photo, so that many releases of it show no more than one.
    """

    version = 3
    training = "ppfr_bench.defenses._anonymizer_training:AnonymizerTraining"
    card = DefenseCard(
        title="Stochastic local-feature anonymizer",
        plain="Keeps only the local detail that face recognizers need, moves and disturbs it at random, and puts it"
        " on a blurred, randomly drawn artificial face. A secret key fixes the draw of each photo.",
        family="local features",
        reference="after Liu et al., Local Features Meet Stochastic Anonymization, arXiv 2412.08276, 2024",
        licence="MIT",
        randomness="per_session_key",
        training_data="2,000 images of 500 synthetic identities of the defender (DigiFace GAN); no real person",
        weights_sha256="e46cd1375ce0408bd22e24f7fd7b8e4ec1cc28b052e583afb392aa4d10092943",
        deviations=(
            "No code of the paper is public: this is built from its abstract.",
            "The generator is a pyramid with trained maps, not a deep network.",
            "The surrogate it learnt from is one recognizer, not an ensemble.",
            "The evaluation's secret key is one the attacker may query, never read.",
            "Under 200 images a second on one core without AVX-512: five random fields, three bands, a warp.",
        ),
    )
    Config = StochasticAnonymizerConfig

    @property
    def randomness(self) -> Randomness:
        """``per_call`` if every call draws anew."""
        return "per_session_key" if self.config.draws == "photo" else "per_call"

    @property
    def seen(self) -> tuple[str, ...]:
        """The one that it was trained with."""
        return ("faceplugin",)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same, h and w at least 4."""
        c = self.config
        fresh = c.draws == "call"
        keys = per_image_generators(generator, len(images)) if fresh else _draws.photo_generators(c.secret, images)
        released: torch.Tensor = _generator.on(images.device)(images, c.strength, keys)
        return released


@device.per_device
def _generator() -> LocalGenerator:
    network = LocalGenerator()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval().requires_grad_(False)


DEFENSE = StochasticAnonymizer
