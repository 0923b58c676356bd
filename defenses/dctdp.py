"""DCTDP: Laplace noise on every frequency but the means, its privacy budget shared out by learning."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench.api import SIZE, Config, DefenseCard, Faces, Guarantee

from . import _background, _draws
from . import _frequency as freq

_HEAD = 64  # dimensions that the recognizer reads off the noisy frequencies
_IMAGES = 2000
_BATCH = 64
_TAIL = 3.0  # scales of noise, beyond the range itself, that fit into the eight bits


class DctdpConfig(Config):
    """``epsilon``: mean over the frequencies of all blocks; ``steps`` in which the shares are learnt."""

    epsilon: float = Field(32.0, gt=0)
    steps: int = Field(150, ge=0)
    learning_rate: float = Field(0.02, gt=0)


class Dctdp(freq.Frequency):
    """The noise is in proportion to how far each frequency swings, and its scale is public.

    Every frequency but the means is clipped to its range r on the defender's images, so that it can move by 2 r, and
    gets Laplace noise of scale 2 r / epsilon_i. The epsilon_i add up to the whole image's: epsilon * 189 * blocks. All
    for one release; the epsilons of several add up.
    """

    version = 1
    card = DefenseCard(
        title="DCTDP",
        family="frequency domain",
        output="representation",
        track="representation",
        reference="Ji et al., Privacy-Preserving Face Recognition with Learnable Privacy Budgets in Frequency Domain, "
        "ECCV 2022",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        randomness="per_call",
        learned=True,
        training_data="at most 2,000 images of the defender and who is on them",
        deviations=(
            "Blocks of 8x8 pixels of the image itself, not of one enlarged eightfold, so a 64th of the values: the "
            "default epsilon of 32 each is the paper's budget of 0.5 each for the whole image, 94.5 a pixel.",
            "Shares are learnt against a linear recognizer of the defender's people instead of a deep one.",
            "Ranges are measured on the defender's images and clipped to, where the released code takes 1; noise is "
            "drawn for every image, where it is drawn once a batch, and has no learnt offset.",
            "Released in 8 bits a value.",
        ),
    )
    Config = DctdpConfig

    @property
    def guarantee(self) -> Guarantee:
        """What all frequencies of an aligned image have together."""
        values = (freq.CHANNELS - 3) * (SIZE // freq.BLOCK) ** 2
        return Guarantee(epsilon=self.config.epsilon * values, per="image")

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Ranges; then the shares, under recognition loss less the logarithm of the mean scale of the noise."""
        super().fit(faces, generator)
        order = torch.randperm(len(faces), generator=generator).numpy()[:_IMAGES]
        scaled = torch.cat([self.scaled(torch.from_numpy(faces.load(order[i : i + _BATCH])).float() / 255)
                            for i in range(0, len(order), _BATCH)])  # fmt: skip
        people, labels = torch.from_numpy(faces.identities[order]).unique(return_inverse=True)
        rho = torch.zeros(scaled.shape[1:], requires_grad=True)
        size = scaled[0].numel()
        first = (torch.randn(_HEAD, size, generator=generator) / size**0.5).requires_grad_(True)
        last = (torch.randn(len(people), _HEAD, generator=generator) / _HEAD**0.5).requires_grad_(True)
        optimizer = torch.optim.Adam(
            [{"params": [rho], "lr": self.config.learning_rate}, {"params": [first, last], "lr": 2e-3}]
        )
        with torch.enable_grad():
            for _ in range(self.config.steps):
                rows = torch.randint(0, len(scaled), (_BATCH,), generator=generator)
                scale = self._scale(rho)
                seen = scaled[rows] + scale * _draws.laplace(generator, scaled[rows].shape)
                seen = torch.cat([seen[:, colour] for colour in _kept().split(freq.PLANE - 1)], dim=1)
                code = functional.normalize(seen.flatten(1) @ _rows(first, scaled.shape[1:]).T, dim=1)
                logits = 16 * code @ functional.normalize(last, dim=1).T
                loss = nn.functional.cross_entropy(logits, labels[rows]) - scale[_kept()].mean().log()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.scale = self._scale(rho.detach())

    def _scale(self, rho: torch.Tensor) -> torch.Tensor:
        """Of the noise on frequencies in [-1, 1], (192, h, w): sensitivity 2 over each one's share of the budget."""
        kept = rho[_kept()]
        shares = torch.softmax(kept.flatten(), 0).reshape(kept.shape)
        budget = self.config.epsilon * kept.numel()
        return torch.zeros_like(rho).index_copy(0, _kept(), 2 / (shares * budget))

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy frequencies in their places; the means empty."""
        scaled = self.scaled(images)
        scale = self._scale_at(scaled.shape[-2:])
        noise = _draws.per_image(generator, len(images), lambda one: _draws.laplace(one, scaled.shape[1:]))
        noisy = (scaled + scale * noise) / (1 + _TAIL * scale)
        means = torch.arange(3) * freq.PLANE
        noisy[:, means] = 0
        return freq.pack(freq.bytes_like(noisy), images)

    def picture(self, released: torch.Tensor) -> torch.Tensor:
        """What the noisy frequencies look like."""
        noisy = freq.signed(freq.unpack(released))
        return self.picture_of(noisy * (1 + _TAIL * self._scale_at(noisy.shape[-2:])), released)

    def _scale_at(self, size: torch.Size) -> torch.Tensor:
        """The scales on another grid than that of an aligned image: those nearest."""
        _background.fitted(self.ranges)
        if self.scale.shape[-2:] == size:
            return self.scale
        return functional.interpolate(self.scale[None], size=tuple(size), mode="nearest")[0]


def _kept() -> torch.Tensor:
    """Channels that are no mean of a block."""
    return freq.per_colour(freq.others((0,)))


def _rows(first: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The first layer's weights of the channels that are kept."""
    return first.reshape(len(first), *shape)[:, _kept()].flatten(1)


DEFENSE = Dctdp
