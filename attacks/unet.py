"""U-Net inversion: a reconstruction network trained on pairs from the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._images import enlarge, held_out, resize, shrink, shrink_faces
from ._linear import fit_linear
from ._network import Batch, UNet, mixed_precision, train

_CHECKS = 8  # validations during training
_SETTLED = 0.03  # relative fall of the validation loss over the last quarter that still counts as converged


class UnetConfig(Config):
    """``size``: working side in pixels; ``linear_size``: that of the global linear path."""

    steps: int = Field(400, ge=1)
    batch: int = Field(32, ge=1)
    width: int = Field(32, ge=8, multiple_of=8)
    size: int = Field(64, ge=16, le=112, multiple_of=8)
    linear_size: int = Field(32, ge=8, le=112)
    learning_rate: float = Field(2e-3, gt=0)


class Unet(Attack):
    """Protects its own images through the oracle and trains, under L1, a U-Net back to the clear ones.

    Beside the protected image the network is given what a linear map of the whole image makes of it, because
    convolutions alone cannot undo a global permutation. For the training images that map is fitted on other people,
    so that the network does not learn to trust it more than it deserves.
    """

    version = 1
    card = AttackCard(
        title="U-Net inversion",
        family="reconstruction",
        reference="Ronneberger et al., U-Net, 2015; as recovery attack, Mi et al., MinusFace, CVPR 2024",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        deviations=("Works at 64 pixels, with group norm, and has a global linear path.",),
    )
    Config = UnetConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the auxiliary people, validate on the rest."""
        assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
        c, identities = self.config, view.auxiliary.identities
        validation = held_out(identities, 0.1, generator)
        protected, clear = shrink(view.auxiliary_protected, c.size), shrink_faces(view.auxiliary, c.size)
        linear = self._fit_linear(view, identities, validation, generator)
        train_rows = torch.from_numpy(np.flatnonzero(~validation))
        held_rows = torch.from_numpy(np.flatnonzero(validation))[:256]
        self._mean = clear[train_rows].float().mean(0, keepdim=True) / 255
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
            self._network = UNet(6, c.width).to(memory_format=torch.channels_last)

        def batches() -> Iterator[Batch]:
            while True:
                for rows in train_rows[torch.randperm(len(train_rows), generator=generator)].split(c.batch):
                    yield self._inputs(protected[rows], linear[rows]), clear[rows].float() / 255 - self._mean

        curve: list[tuple[int, float]] = []

        def check(step: int) -> None:
            if step == c.steps or step % max(1, c.steps // _CHECKS) == 0:
                rebuilt = self._rebuild(protected[held_rows], linear[held_rows])
                curve.append((step, round(float((rebuilt - clear[held_rows].float() / 255).abs().mean()), 5)))
                self._network.train()

        train(self._network, batches(), c.steps, c.learning_rate, functional.l1_loss, check)
        before = next(loss for step, loss in reversed(curve) if step <= 0.75 * c.steps or step == curve[0][0])
        self.log |= {
            "training_images": len(clear), "steps": c.steps, "batch": c.batch, "validation_l1": curve,
            "converged": curve[-1][1] > (1 - _SETTLED) * before,
        }  # fmt: skip

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """Reconstructions from the first shot, uint8 (n, 3, 112, 112)."""
        targets = shrink(view.targets[0], self.config.size)
        linear = self._linear_image(self._linear(shrink(view.targets[0], self.config.linear_size)))
        return enlarge(self._rebuild(targets, linear))

    def _fit_linear(
        self, view: AttackerView, identities: npt.NDArray[np.int64], validation: npt.NDArray[np.bool_],
        generator: torch.Generator,
    ) -> torch.Tensor:  # fmt: skip
        """The linear map of all auxiliary images (kept), and its cross-fitted answers on them, uint8."""
        assert view.auxiliary_protected is not None
        size = self.config.linear_size
        inputs, outputs = shrink(view.auxiliary_protected, size), shrink_faces(view.auxiliary, size)
        self._linear = fit_linear(inputs, outputs, validation)
        answers = torch.empty_like(inputs)
        half = held_out(identities, 0.5, generator)
        for rows in (half, ~half):
            other = fit_linear(inputs[~rows], outputs[~rows], None, self._linear.strength)
            answers[rows] = self._linear_image(other(inputs[rows]))
        return answers

    def _linear_image(self, flat: torch.Tensor) -> torch.Tensor:
        size = self.config.linear_size
        return (flat.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3, size, size)

    def _inputs(self, protected: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        """uint8 images -> (n, 6, s, s) in [0, 1], channels_last."""
        both = torch.cat([protected.float() / 255, resize(linear.float() / 255, self.config.size)], dim=1)
        return both.contiguous(memory_format=torch.channels_last)

    def _rebuild(self, protected: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, s, s) in [0, 1]: the mean face and the network's correction."""
        self._network.eval()
        parts = []
        with torch.inference_mode(), mixed_precision():
            for images, guesses in zip(protected.split(64), linear.split(64), strict=True):
                parts.append((self._network(self._inputs(images, guesses)).float() + self._mean).clamp(0, 1))
        return torch.cat(parts)


ATTACK = Unet
