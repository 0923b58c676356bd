"""U-Net inversion: a reconstruction network trained on pairs from the oracle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Attack, AttackCard, AttackerView, Config

from ._images import enlarge, held_out, shrink, shrink_faces
from ._linear import fit_linear
from ._network import Batch, UNet, mixed_precision, train

_CHECKS = 5  # validations during training
_CHECKED = 128  # images a validation
_SETTLED = 0.03  # relative fall of the validation loss over the last quarter that still counts as converged


class UnetConfig(Config):
    """``size``: working side in pixels, of the network and of its global linear path."""

    steps: int = Field(400, ge=1)
    batch: int = Field(32, ge=1)
    width: int = Field(32, ge=8, multiple_of=8)
    size: int = Field(64, ge=16, le=112, multiple_of=8)
    learning_rate: float = Field(2e-3, gt=0)


class Unet(Attack):
    """Protects its own images through the oracle and trains, under L1, a U-Net back to the clear ones.

    A ridge regression of the whole image answers first, as convolutions cannot undo a global permutation; the network
    sees that answer beside the protected image and corrects it. Before training it is the ridge attack, and where the
    input tells nothing the mean face. What it trains on are the regression's answers with the person left out, so that
    it does not learn to trust them more than they deserve.
    """

    version = 2
    card = AttackCard(
        title="U-Net inversion",
        family="reconstruction",
        reference="Ronneberger et al., U-Net, 2015; as recovery attack, Mi et al., MinusFace, CVPR 2024",
        licence="MIT",
        measures="appearance",
        knowledge="aware",
        learned=True,
        deviations=("Works at 64 pixels, with group norm, and corrects the answer of a global linear map.",),
    )
    Config = UnetConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the auxiliary people, validate on the rest."""
        assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
        c, identities = self.config, view.auxiliary.identities
        validation = held_out(identities, 0.1, generator)
        protected, clear = shrink(view.auxiliary_protected, c.size), shrink_faces(view.auxiliary, c.size)
        fitted = fit_linear(protected, clear, identities, validation)
        self._linear, first = fitted.map, self._image(fitted.left_out)
        # One person only: nobody is left to validate on, and the curve is that of training.
        held_rows = torch.from_numpy(np.flatnonzero(validation if validation.any() else ~validation))[:_CHECKED]
        train_rows = torch.from_numpy(np.flatnonzero(~validation))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
            self._network = UNet(6, c.width).to(memory_format=torch.channels_last)

        def batches() -> Iterator[Batch]:
            while True:
                order = train_rows[torch.randperm(len(train_rows), generator=generator)]
                for start in range(0, max(1, len(order) - c.batch + 1), c.batch):
                    rows = order[start : start + c.batch]
                    target = (clear[rows].float() - first[rows].float()) / 255
                    yield self._inputs(protected[rows], first[rows]), target

        curve: list[tuple[int, float]] = []

        def check(step: int) -> None:
            if step == c.steps or step % max(1, c.steps // _CHECKS) == 0:
                rebuilt = self._rebuild(protected[held_rows], first[held_rows])
                curve.append((step, round(float((rebuilt - clear[held_rows].float() / 255).abs().mean()), 5)))
                self._network.train()

        check(0)
        train(self._network, batches(), c.steps, c.learning_rate, functional.l1_loss, check)
        before = next(loss for step, loss in reversed(curve) if step <= 0.75 * c.steps)
        self.log |= {
            "training_images": len(train_rows), "steps": c.steps, "batch": c.batch, "strength": self._linear.strength,
            "validation": curve, "converged": curve[-1][1] > (1 - _SETTLED) * before,
        }  # fmt: skip

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """Reconstructions from the first shot, uint8 (n, 3, 112, 112)."""
        targets = shrink(view.targets[0], self.config.size)
        return enlarge(self._rebuild(targets, self._image(self._linear(targets))))

    def _image(self, flat: torch.Tensor) -> torch.Tensor:
        size = self.config.size
        return (flat.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3, size, size)

    def _inputs(self, protected: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """uint8 images and first answers -> (n, 6, s, s) in [0, 1], channels_last."""
        both = torch.cat([protected, first], dim=1).contiguous(memory_format=torch.channels_last)
        return both.float() / 255

    def _rebuild(self, protected: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, s, s) in [0, 1]: the first answer and the network's correction."""
        self._network.eval()
        parts = []
        with torch.inference_mode(), mixed_precision():
            for images, answers in zip(protected.split(64), first.split(64), strict=True):
                correction = self._network(self._inputs(images, answers)).float()
                parts.append((correction + answers.float() / 255).clamp(0, 1))
        return torch.cat(parts)


ATTACK = Unet
