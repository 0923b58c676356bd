"""MinusFace: what a generator could not tell of the face, its channels shuffled afresh for every image."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import DefenseCard, Faces, Randomness
from ppfr_bench.learning.unet import weights_from

from . import _background, _draws
from . import _frequency as freq

_SQUARE = 4  # A square of so many pixels a side is released as the channels of one place.
_WIDTH = 32
_BATCH = 16
_SCALE, _MARGIN = 32.0, 0.3  # ArcFace's, for a network as small as this.
_APPEARANCE = 5.0  # The generator's error has this weight, as in the paper.


class MinusFaceConfig(freq.FrequencyConfig):
    """``steps`` of training; ``key``: one shuffle an image (the paper's), or one for all."""

    steps: int = Field(150, ge=0)
    learning_rate: float = Field(2e-3, gt=0)
    key: _draws.Key = "image"
    secret: int = 0


class MinusFace(freq.Frequency):
    """The generator is public, the shuffle a fresh permutation of 192 channels: what no order hides is left to read.

    The image is lifted to more frequencies than it has pixels, and a generator is trained to restore them so that they
    look like the image, while the residue is trained to tell who it is. The residue, which is invisible as it stands,
    is shuffled, and what the shuffled one looks like is released.
    """

    version = 1
    card = DefenseCard(
        title="MinusFace",
        plain="Subtracts from the photo what a trained network can reproduce of its looks, and releases the rest in"
        " shuffled order. The rest still tells who the person is.",
        family="frequency domain",
        reference="Mi et al., Privacy-Preserving Face Recognition Using Trainable Feature Subtraction, CVPR 2024",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        randomness="per_call",
        learned=True,
        training_data="at most 2,000 images of the defender and who is on them",
        deviations=(
            freq.ENLARGED,
            "Generator and recognizer are a few convolutions, trained for 150 steps on the defender's people.",
            "What is released is scaled by its range on the defender's images and put into 8 bits.",
            "Under 200 images a second on one core: each image takes the generator and two block transforms.",
        ),
    )
    Config = MinusFaceConfig
    generator: nn.Module
    reach: torch.Tensor | None = None  # scalar

    @property
    def randomness(self) -> Randomness:
        """As the key says."""
        return _draws.keyed_randomness(self.config.key)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Ranges of the lifted frequencies and of the release; the generator, with a recognizer of its residue."""
        super().fit(faces, generator)
        people, labels = np.unique(faces.identities, return_inverse=True)
        with weights_from(generator):
            generating, recognizer = _generator(), _Recognizer(len(people))
        self.generator, recognizer = device.to(generating), device.to(recognizer)
        with torch.enable_grad():
            both = [*self.generator.parameters(), *recognizer.parameters()]
            optimizer = torch.optim.AdamW(both, lr=self.config.learning_rate)
            for _ in range(self.config.steps):
                rows = torch.randint(0, len(faces), (_BATCH,), generator=generator).numpy()
                clear = _background.loaded(faces, rows).float() / 255
                residue, generated = self._subtract(clear)
                restored = freq.lower(generated, self.config.enlarge)
                told = recognizer(
                    residue / _background.fitted(residue, self.ranges), device.to(torch.from_numpy(labels[rows]))
                )
                loss = _APPEARANCE * (restored - clear).abs().mean() + told
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.generator.requires_grad_(False)
        images = _background.some(faces, 256, generator)
        drawn = [self._shuffled(part.float() / 255, generator).abs().flatten(1) for part in images.split(_BATCH)]
        # The CPU takes the quantile, as torch ranks in float64, which not every device has.
        self.reach = device.to(torch.cat(drawn).cpu().quantile(0.999, dim=1).median().clamp_min(1e-3))

    def _subtract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Residue and what was generated, both as frequencies (n, 192, h / 4, w / 4)."""
        ranges = _background.fitted(images, self.ranges)
        lifted = freq.lift(images, self.config.enlarge)
        generated = device.to(self.generator, like=images)(lifted / ranges) * ranges
        return lifted - generated, generated

    def residue_image(self, images: torch.Tensor) -> torch.Tensor:
        """What the residue looks like before it is shuffled, around 0: nearly nothing."""
        return freq.lower(self._subtract(images)[0], self.config.enlarge) - 0.5

    def _shuffled(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the shuffled residue looks like, around 0."""
        residue, _ = self._subtract(images)
        orders = _draws.keyed(
            self.config.key, self.config.secret, generator, images,
            lambda one: torch.randperm(freq.CHANNELS, generator=one),
        )  # fmt: skip
        shuffled = residue.gather(1, orders[:, :, None, None].expand_as(residue))
        return freq.lower(shuffled, self.config.enlarge) - 0.5

    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, 48, h / 4, w / 4): the shuffled residue as an image, square by square."""
        shuffled = self._shuffled(images, generator)
        drawn = freq.in_bytes(shuffled / _background.fitted(images, self.reach))
        bottom, right = (-side % _SQUARE for side in drawn.shape[-2:])
        return functional.pixel_unshuffle(functional.pad(drawn, (0, right, 0, bottom), value=0.5), _SQUARE)

    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """The image of which the squares are."""
        return functional.pixel_shuffle(released, _SQUARE)


class _Recognizer(nn.Module):
    """ArcFace loss of a residue."""

    def __init__(self, people: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(freq.CHANNELS, 64, 1), nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.GroupNorm(8, 64), nn.SiLU(),
            nn.Conv2d(64, 96, 3, stride=2, padding=1), nn.GroupNorm(8, 96), nn.SiLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96 * 16, 128),
        )  # fmt: skip
        self.people = nn.Parameter(torch.randn(people, 128))

    def forward(self, residue: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cosines = functional.normalize(self.body(residue), dim=1) @ functional.normalize(self.people, dim=1).T
        angles = cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        own = functional.one_hot(labels, len(self.people)).to(angles.dtype)
        return functional.cross_entropy(_SCALE * (angles + _MARGIN * own).cos(), labels)


def _generator() -> nn.Sequential:
    """(n, 192, h, w) -> the same: by way of fewer channels than an image has values, so that it cannot just copy."""
    return nn.Sequential(
        nn.Conv2d(freq.CHANNELS, _WIDTH, 1), nn.SiLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.SiLU(),
        nn.Conv2d(_WIDTH, freq.CHANNELS, 1),
    )  # fmt: skip


DEFENSE = MinusFace
