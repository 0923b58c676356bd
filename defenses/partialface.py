"""PartialFace: of the high frequencies a random subset, in a random order, and neither is told."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from ppfr_bench import device
from ppfr_bench.api import DefenseCard, Faces, Randomness

from . import _background, _draws
from . import _frequency as freq

PRUNED = (0, 1, 2, 3, 8, 9, 10, 16, 17, 24)  # The visible frequencies, ten a colour.
_TABLE = 20_230  # The public table of subsets and orders has this seed.


class PartialFaceConfig(freq.FrequencyConfig):
    """``subsets`` of the 54 frequencies left; ``orders`` of each; ``key``: one pair for all images, or one each."""

    subsets: int = Field(6, ge=1, le=54)
    orders: int = Field(6, ge=1, le=720)
    key: _draws.Key = "image"
    secret: int = 0

    @model_validator(mode="after")
    def _divides(self) -> PartialFaceConfig:
        if 54 % self.subsets:
            raise ValueError(f"expected a number of subsets that divides 54, got {self.subsets}")
        return self


class PartialFace(freq.Frequency):
    """The table is public, so an attacker tries its 36 pairs; energies tell him which one an image was sent under."""

    version = 1
    card = DefenseCard(
        title="PartialFace",
        plain="Sends a random part of the fine detail of the photo in a random order, and does not tell which part "
        "or which order.",
        family="frequency domain",
        reference="Mi et al., Privacy-Preserving Face Recognition Using Random Frequency Components, ICCV 2023",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        randomness="per_call",
        learned=True,
        training_data="at most 500 images of the defender, for the range of each frequency",
        deviations=(
            freq.ENLARGED,
            freq.IN_BYTES,
            "The table is drawn once from a fixed seed; the code has a fixed one, and in training chooses by label, "
            "which here nothing does.",
            "One order for all three colours.",
        ),
    )
    Config = PartialFaceConfig
    strength: torch.Tensor | None = None  # (192,)

    @property
    def randomness(self) -> Randomness:
        """As the key says."""
        return _draws.keyed_randomness(self.config.key)

    @property
    def table(self) -> torch.Tensor:
        """(subsets * orders, 54 / subsets): the frequencies of one colour that each pair sends, in its order."""
        return _table.on(device.CPU, self.config.subsets, self.config.orders)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Ranges, and how strong each frequency is on the defender's faces: public, as the defender's people are."""
        super().fit(faces, generator)
        images = _background.some(faces, 200, generator)
        self.strength = torch.cat(
            [_strength(self.scaled(part.float() / 255)) for part in images.split(freq.at_a_time(self.config.enlarge))]
        ).mean(0)

    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, 27, h, w): nine frequencies of each colour, in their order."""
        table, scaled = self.table, self.scaled(images)
        sent = _draws.keyed(
            self.config.key, self.config.secret, generator, images,
            lambda one: table[torch.randint(0, len(table), (), generator=one)],
        )  # fmt: skip
        at = freq.per_colour(sent)[:, :, None, None].expand(-1, -1, *scaled.shape[-2:])
        return freq.in_bytes(scaled.gather(1, at))

    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """Each subset put back where its energies say that it belongs, and what that looks like."""
        table = _table.on(released.device, self.config.subsets, self.config.orders)
        channels, sent = freq.per_colour(table), freq.signed(released)
        strength = _background.fitted(released, self.strength)
        pair = (_strength(sent)[:, None] - strength[channels]).square().sum(2).argmin(1)
        return self.image_of(freq.placed(sent, channels[pair]))


@device.per_device
def _table(subsets: int, orders: int) -> torch.Tensor:
    """(subsets * orders, 54 / subsets): see ``PartialFace.table``."""
    generator = torch.Generator().manual_seed(_TABLE)
    left = torch.tensor(freq.others(PRUNED))
    parts = left[torch.randperm(len(left), generator=generator)].reshape(subsets, -1)
    shuffles = [torch.randperm(parts.shape[1], generator=generator) for _ in range(orders)]
    return torch.stack([part[shuffle] for part in parts for shuffle in shuffles])


def _strength(scaled: torch.Tensor) -> torch.Tensor:
    """(n, channels): logarithm of the root mean square over the blocks."""
    return scaled.square().mean((2, 3)).clamp_min(1e-8).log() / 2


DEFENSE = PartialFace
