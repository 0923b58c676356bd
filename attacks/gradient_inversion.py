"""Gradient inversion: search, for each target, the face that the known defense would turn into what was released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import (
    SIZE,
    Answers,
    Attack,
    AttackCard,
    AttackerView,
    ByteArray,
    FloatArray,
    Material,
    Scope,
    to_bytes,
)
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import WarmInverterConfig, plain_unet, read_plain_unet, rebuild
from ppfr_bench.learning.prior_inversion import PriorSettings, compared_ways, mean_release
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import budgets

_BATCH = 64


class GradientInversionConfig(WarmInverterConfig):
    """``steps`` of the search; ``warm``: of the network it starts from; ``smooth``, ``stay``: weights of the prior.

    ``releases``: shots it has; ``draws``: of the defense a step, where it is random. Of photographs: ``levels`` of
    noise that samples may start from, in units of half the range; ``denoisings`` a sample; ``pulls`` towards the
    release at each; ``averaged``: samples of which the mean is tried, too; ``adapting``: steps in which the prior
    learns the start's errors, at most at the rate ``adapting_rate``, LPIPS weighing ``perception``.
    """

    steps: int = Field(60, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    smooth: float = Field(1e-4, ge=0)
    stay: float = Field(1e-3, ge=0)
    releases: int = Field(4, ge=1, le=64)
    draws: int = Field(2, ge=1)
    levels: tuple[float, ...] = (0.1,)
    denoisings: int = Field(4, ge=1)
    pulls: int = Field(3, ge=1)
    averaged: int = Field(4, ge=1)
    adapting: int = Field(200, ge=0)
    adapting_rate: float = Field(1e-3, gt=0)
    perception: float = Field(4.0, ge=0)


class GradientInversion(Attack):
    """Has the defense's code and weights and differentiates through it, with the U-Net's answer as prior and start.

    Minimises |mean of D(x) - mean of the releases|^2 + smooth * total variation + stay * |x - start|^2 by Adam. Where
    no gradient comes through the defense, the start is the answer, and the record says so. It does not have the key: of
    a defense with one it searches under another.

    Of photographs it has a generative prior of faces as well, trained on photographs of other people. It adapts the
    prior to the U-Net's errors on its own images, as if they were noise. Samples start from the better of both answers
    under noise, and are held to the release at every step.

    People of its own, whom neither the U-Net nor the prior nor its adaptation has learnt from, choose for each measure
    between the start and the search, and on photographs the adapted prior's answer, one sample and a mean of samples.
    """

    version = 5
    card = AttackCard(
        title="Gradient inversion",
        plain="Knows the defense completely and searches, for each protected image, the face that the defense would"
        " have turned into it.",
        family="optimisation",
        reference="Mahendran and Vedaldi, CVPR 2015; Geiping et al., NeurIPS 2020 (prior); EOT, Athalye et al. 2018; "
        "SDEdit, Meng et al., ICLR 2022 and DiffPIR, Zhu et al., CVPR Workshops 2023 (samples)",
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
        self._defense = defense = view.defense
        assert defense is not None, "an informed attacker has the defense"
        differentiable = _has_gradient(defense, start[:2], generator)
        self.log |= {"differentiable": differentiable, "training_images": data.log["training_images"],
                     "shots": len(view.targets) if differentiable else 1}  # fmt: skip
        self._answer = Answers(to_bytes(start))
        if not differentiable:
            return
        self._random = len(view.targets) > 1
        settings = PriorSettings(
            c.adapting, c.adapting_rate, c.perception, c.batch, c.levels, c.denoisings, c.pulls, c.averaged
        )
        found = compared_ways(view, data, network, self._release, self._search, settings, generator)
        released, chosen = mean_release(view.targets), found.chosen
        answers = {}
        for name in dict.fromkeys(chosen.values()):
            answers[name] = to_bytes(found.ways[name](start, released, generator))
        self._answer = self._answers(answers, chosen)
        self.log |= {"steps": c.steps, "answered_by": chosen, "compared": found.reached,
                     "compared_on": len(found.held_out.clear),
                     "objective": [float(f"{v:.4g}") for v in self._curve[:: max(1, c.steps // 6)]]}  # fmt: skip
        if found.held_out.by_prior:
            self.log["prior"] = found.log

    def _answers(self, answers: Mapping[str, ByteArray], chosen: Mapping[str, str]) -> Answers:
        """The best by LPIPS, the best by other measures, and parts of the search where it is the best by LPIPS."""
        main = chosen["lpips"]
        by_measure = {measure: answers[name] for measure, name in chosen.items() if name != main}
        if main != "search":
            return Answers(answers[main], by_measure)
        at = {size: np.concatenate(found) for size, found in self._parts.items()}
        if at and by_measure:
            at[self.config.steps] = answers[main]
        return Answers(answers[main], by_measure, at)

    def _release(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """The mean of the defense's draws, the same at every call with the same seed."""
        defense: Any = self._defense
        seeds = range(seed, seed + (self.config.draws if self._random else 1))
        draws = [defense.protect(images, torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(draws).mean(0)

    def _search(self, start: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The descent, a batch at a time; it notes its curve, and answers after parts of it."""
        self._curve: FloatArray = np.zeros(self.config.steps)
        self._parts: dict[int, list[ByteArray]] = {}
        parts = zip(start.split(_BATCH), wanted.split(_BATCH), strict=True)
        return torch.cat([self._descended(part, seen, generator) for part, seen in parts])

    def _descended(self, start: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        c, defense = self.config, self._defense
        assert defense is not None
        x = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=c.learning_rate)
        for step in range(c.steps):
            draws = [defense.protect(x.clamp(0, 1), generator) for _ in range(c.draws if self._random else 1)]
            miss = (torch.stack(draws).mean(0) - wanted).square().mean((1, 2, 3)).sum()
            variation = x.diff(dim=2).abs().mean((1, 2, 3)).sum() + x.diff(dim=3).abs().mean((1, 2, 3)).sum()
            total = miss + c.smooth * variation + c.stay * (x - start).square().mean((1, 2, 3)).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            self._curve[step] += float(miss.detach())
            if step + 1 in budgets(c.steps):
                self._parts.setdefault(step + 1, []).append(to_bytes(x.detach().clamp(0, 1)))
        return x.detach().clamp(0, 1)

    def run(self, view: AttackerView) -> Answers:
        """Reconstructions uint8 (n, 3, 112, 112); those after parts of the descent, where it is what answers."""
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
