"""The reference defense with a part taken out, to see what the part is for; not a defense that anyone should use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file

from ppfr_bench.api import Config, Defense, DefenseCard, Randomness

parts = import_module("ppfr_bench.defenses._local_generator")
shipped = import_module("ppfr_bench.defenses.stochastic_anonymizer")
filters = import_module("ppfr_bench.defenses._filters")
draws = import_module("ppfr_bench.defenses._draws")
SECRET = 0

# ppfr-bench train stochastic_anonymizer --set privacy=0 --set link=0 --set warm=0 --set shots=2 --set drills=1
WEIGHTS = Path(__file__).with_name("no_adversary.safetensors")


class AnonymizerWithoutConfig(Config):
    """``without``: what is taken out; *training*: gates, gains and noise as they were before it; *adversary*: trained
    for recognition alone.
    """

    strength: float = Field(0.35, ge=0, le=1)
    without: Literal["local", "disruption", "injection", "training", "adversary"] = "training"


class AnonymizerWithout(Defense):
    """No local features; the image's own low frequencies; all draws zero; no training; or none against an adversary."""

    version = 2
    card = DefenseCard(
        title="Reference defense, a part taken out", family="local features", licence="MIT",
        reference="ppfr-bench, docs/reference_defense.md", training_data="as the reference defense",
        randomness="per_session_key",
    )  # fmt: skip
    Config = AnonymizerWithoutConfig

    @property
    def randomness(self) -> Randomness:
        """Without draws every release is the same."""
        return "deterministic" if self.config.without == "injection" else "per_session_key"

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As the reference defense, but for the part."""
        without, strength = self.config.without, self.config.strength
        trained = shipped._generator()
        network = trained
        if without == "training":
            network = parts.LocalGenerator().requires_grad_(False)
            for name in ("carrier_mean", "carrier_basis"):
                setattr(network, name, getattr(trained, name))
        if without == "adversary":
            network = parts.LocalGenerator().requires_grad_(False)
            network.load_state_dict(load_file(WEIGHTS))
        drawn = network.draw(*images.shape[-2:], draws.photo_generators(SECRET, images))
        bands = parts.local_bands(images)
        if without == "local":
            bands = torch.zeros_like(bands)
        if without == "injection":
            drawn = {name: torch.zeros_like(tensor) for name, tensor in drawn.items()}
        released: torch.Tensor = network.compose(bands, drawn, strength)
        if without == "disruption":
            quiet = drawn | {"noise": torch.zeros_like(drawn["noise"])}
            carrier = network.compose(torch.zeros_like(bands), quiet, strength)
            released = (released - carrier + filters.gaussian(images, 4.0)).clamp(0, 1)
        return released


DEFENSE = AnonymizerWithout
