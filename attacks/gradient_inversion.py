"""Gradient inversion: search, for each target, the face that the known defense would turn into what was released."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import (
    SIZE,
    Attack,
    AttackCard,
    AttackerView,
    ByteArray,
    FloatArray,
    Material,
    Scope,
    to_bytes,
    to_float,
)
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import WarmInverterConfig, plain_unet, read_plain_unet, rebuild
from ppfr_bench.learning.resizing import resize

_BATCH = 64


class GradientInversionConfig(WarmInverterConfig):
    """``steps`` of the search; ``warm``: of the network it starts from; ``smooth``, ``stay``: weights of the prior.

    ``releases``: shots it has; ``draws``: of the defense a step, where it is random.
    """

    steps: int = Field(60, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    smooth: float = Field(1e-4, ge=0)
    stay: float = Field(1e-3, ge=0)
    releases: int = Field(4, ge=1, le=64)
    draws: int = Field(2, ge=1)


class GradientInversion(Attack):
    """Has the defense's code and weights and differentiates through it, with the U-Net's answer as prior and start.

    Minimises |mean of D(x) - mean of the releases|^2 + smooth * total variation + stay * |x - start|^2 by Adam. Where
    no gradient comes through the defense, the start is the answer, and the record says so.
    """

    version = 1
    card = AttackCard(
        title="Gradient inversion",
        family="optimisation",
        reference="Mahendran and Vedaldi, CVPR 2015; Geiping et al., NeurIPS 2020 (prior); EOT, Athalye et al. 2018",
        licence="MIT",
        measures="appearance",
        knowledge="informed",
    )
    Config = GradientInversionConfig

    @property
    def shots(self) -> int:
        """As many as it compares with."""
        return int(self.config.releases)

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of one shot, and the plain U-Net after ``config.warm`` steps."""
        return inversion_data(scope, self.config.size, 1), plain_unet(scope, self.config.plain)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Rebuild the start, then search. The targets are searched here, so that ``fit`` keeps the answer."""
        c = self.config
        data = read_inversion_data(view, c.size, 1)
        network, _ = read_plain_unet(view, c.plain)
        start = resize(rebuild(network, data.targets, data.target_estimates), SIZE)
        defense = view.defense
        assert defense is not None, "an informed attacker has the defense"
        differentiable = _has_gradient(defense, start[:2], generator)
        self.log |= {"differentiable": differentiable, "training_images": data.log["training_images"],
                     "shots": len(view.targets) if differentiable else 1}  # fmt: skip
        self._answer = to_bytes(start)
        if not differentiable:
            return
        answers, curve = [], np.zeros(c.steps)
        for at in range(0, len(start), _BATCH):
            part = slice(at, at + _BATCH)
            wanted = torch.stack([to_float(shot[part]) for shot in view.targets]).mean(0)
            answers.append(self._search(defense, start[part], wanted, len(view.targets) > 1, generator, curve))
        self._answer = np.concatenate(answers)
        self.log |= {"steps": c.steps, "objective": [float(f"{v:.4g}") for v in curve[:: max(1, c.steps // 6)]]}

    def _search(
        self, defense: Any, start: torch.Tensor, wanted: torch.Tensor, random: bool, generator: torch.Generator,
        curve: FloatArray,
    ) -> ByteArray:  # fmt: skip
        c = self.config
        x = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=c.learning_rate)
        for step in range(c.steps):
            draws = [defense.protect(x.clamp(0, 1), generator) for _ in range(c.draws if random else 1)]
            miss = (torch.stack(draws).mean(0) - wanted).square().mean((1, 2, 3)).sum()
            variation = x.diff(dim=2).abs().mean((1, 2, 3)).sum() + x.diff(dim=3).abs().mean((1, 2, 3)).sum()
            total = miss + c.smooth * variation + c.stay * (x - start).square().mean((1, 2, 3)).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            curve[step] += float(miss.detach())
        return to_bytes(x.detach().clamp(0, 1))

    def run(self, view: AttackerView) -> ByteArray:
        """Reconstructions uint8 (n, 3, 112, 112)."""
        return self._answer


def _has_gradient(defense: Any, images: torch.Tensor, generator: torch.Generator) -> bool:
    x = images.clone().requires_grad_(True)
    try:
        released = defense.protect(x, generator)
    except RuntimeError as error:  # A defense that leaves torch on the way raises this.
        if "requires grad" in str(error):
            return False
        raise
    if not released.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(released.square().sum(), x, allow_unused=True)
    return gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.abs().sum() > 0)


ATTACK = GradientInversion
