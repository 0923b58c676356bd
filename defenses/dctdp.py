"""DCTDP: Laplace noise on every frequency but the means, its privacy budget shared out by learning."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, DefenseCard, Faces, Guarantee

from . import _background, _draws
from . import _frequency as freq

_HEAD = 64  # The recognizer reads so many dimensions off the noisy frequencies.
_IMAGES = 1000
_STEP = 16  # Images in a step of training.
_SHARP = 16.0  # The softmax multiplies the cosines by it.
_TAIL = 3.0  # The eight bits hold the range and so many scales of noise beyond it.


class DctdpConfig(freq.FrequencyConfig):
    """``epsilon``: mean over the frequencies of all blocks; ``steps`` in which the shares are learnt."""

    epsilon: float = Field(8.0, gt=0)
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
        plain="Splits the photo into patterns from coarse to fine and adds random noise to all but the coarsest. It"
        " learns how much noise each pattern gets, within a fixed privacy budget.",
        family="frequency domain",
        reference="Ji et al., Privacy-Preserving Face Recognition with Learnable Privacy Budgets in Frequency Domain, "
        "ECCV 2022",
        code_url="https://github.com/Tencent/TFace",
        licence="MIT",
        randomness="per_call",
        learned=True,
        training_data="at most 1,000 images of the defender and who is on them",
        deviations=(
            freq.ENLARGED,
            "So there are a 16th of the values: an epsilon of 8 each is the paper's budget of 0.5 each for the whole "
            "image, 94.5 a pixel.",
            "Shares are learnt against a linear recognizer of the defender's people instead of a deep one, and for "
            "28x28 groups of blocks at most.",
            "Ranges are measured on the defender's images and clipped to, where the released code takes 1; noise is "
            "drawn for every image, where it is drawn once a batch, and has no learnt offset.",
            "Released in 8 bits a value.",
            "Under 200 images a second on one core: Laplace noise is drawn for 148,176 values an image.",
        ),
    )
    Config = DctdpConfig
    scale: torch.Tensor | None = None  # (189, h, w), on a grid of 28 where the image is enlarged more than twofold

    @property
    def guarantee(self) -> Guarantee:
        """What all frequencies of an aligned image have together."""
        values = 3 * len(freq.WITHOUT_MEANS) * (-(-SIZE * self.config.enlarge // freq.BLOCK)) ** 2
        return Guarantee(epsilon=self.config.epsilon * values, per="image")

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Ranges; then the shares, under recognition loss less the logarithm of the mean scale of the noise."""
        super().fit(faces, generator)
        order = torch.randperm(len(faces), generator=generator).numpy()[:_IMAGES]
        at_a_time = freq.at_a_time(self.config.enlarge)
        parts = (_background.loaded(faces, order[i : i + at_a_time]) for i in range(0, len(order), at_a_time))
        values = torch.cat([freq.coarse(self._values(part.float() / 255)).half() for part in parts])
        side = SIZE * self.config.enlarge // freq.BLOCK
        averaged = max(1.0, side / values.shape[-1])  # Of so many noises a side, the mean is that much smaller.
        people, who = torch.from_numpy(faces.identities[order]).unique(return_inverse=True)
        labels = device.to(who)
        rho = torch.zeros(values.shape[1:], device=values.device, requires_grad=True)
        size = values[0].numel()
        first = (device.draw(torch.randn, generator, size, _HEAD) / size**0.5).requires_grad_(True)
        last = (device.draw(torch.randn, generator, _HEAD, len(people)) / _HEAD**0.5).requires_grad_(True)
        optimizer = torch.optim.Adam(
            [{"params": [rho], "lr": self.config.learning_rate}, {"params": [first, last], "lr": 2e-3}]
        )
        with torch.enable_grad():
            for _ in range(self.config.steps):
                rows = device.draw(torch.randint, generator, 0, len(values), (_STEP,))
                scale = self._scale(rho)
                noise = device.to(_draws.laplace(generator, (_STEP, *rho.shape)))
                seen = values[rows].float() + scale * noise / averaged
                code = functional.normalize(seen.flatten(1) @ first, dim=1)
                logits = _SHARP * code @ functional.normalize(last, dim=0)
                loss = functional.cross_entropy(logits, labels[rows]) - scale.mean().log()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.scale = self._scale(rho.detach())

    def _scale(self, rho: torch.Tensor) -> torch.Tensor:
        """Of the noise on frequencies in [-1, 1], (189, h, w): sensitivity 2 over each one's share of the budget."""
        shares = torch.softmax(rho.flatten(), 0).reshape(rho.shape)
        scale: torch.Tensor = 2 / (shares * self.config.epsilon * rho.numel())
        return scale

    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, 189, h, w): noisy frequencies."""
        values = self._values(images)
        scale = self._scale_on(values)
        noise = _draws.per_image(generator, images, lambda one: _draws.laplace(one, values.shape[1:]))
        return freq.in_bytes((values + scale * noise) / (1 + _TAIL * scale))

    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """What the noisy frequencies look like."""
        values = freq.signed(released) * (1 + _TAIL * self._scale_on(released))
        return self.image_of(freq.placed(values, freq.channels_of.on(values.device, freq.WITHOUT_MEANS)))

    def _values(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 189, h, w): frequencies but the means, each in [-1, 1] of its range."""
        return self.scaled(images)[:, freq.channels_of.on(images.device, freq.WITHOUT_MEANS)]

    def _scale_on(self, values: torch.Tensor) -> torch.Tensor:
        """The scales on the grid of the values; where it is not that of an aligned image, those nearest."""
        scale, size = _background.fitted(values, self.scale), values.shape[-2:]
        if scale.shape[-2:] == size:
            return scale
        return functional.interpolate(scale[None], size=tuple(size), mode="nearest")[0]


DEFENSE = Dctdp
