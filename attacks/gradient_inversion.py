"""Gradient inversion: search, for each target, the face that the known defense would turn into what was released."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
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
from ppfr_bench.learning.face_prior import NOT_FOR, SIDE, face_prior, unseen_people
from ppfr_bench.learning.inversion import InversionData, inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import WarmInverterConfig, plain_unet, read_plain_unet, rebuild
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.learning.posterior import agreeing, sample, trust
from ppfr_bench.learning.resizing import resize

_BATCH = 64
_LAST = 0.05  # The noise level that sampling ends at.
_MOST_CHOOSE = 64  # At most so many held-out images choose.
_EXACT = (0.5 / 255) ** 2  # No release is known more exactly than that, as variance of a value.
_Rebuild = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]  # Start and release -> answer.


class GradientInversionConfig(WarmInverterConfig):
    """``steps`` of the search; ``warm``: of the network it starts from; ``smooth``, ``stay``: weights of the prior.

    ``releases``: shots it has; ``draws``: of the defense a step, where it is random. Of photographs: ``levels`` of
    noise that samples may start from, in units of half the range; ``denoisings`` a sample; ``pulls`` towards the
    release at each; ``averaged``: samples of which the mean is tried, too.
    """

    steps: int = Field(60, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    smooth: float = Field(1e-4, ge=0)
    stay: float = Field(1e-3, ge=0)
    releases: int = Field(4, ge=1, le=64)
    draws: int = Field(2, ge=1)
    levels: tuple[float, ...] = (0.15, 0.3, 0.6)
    denoisings: int = Field(6, ge=1)
    pulls: int = Field(3, ge=1)
    averaged: int = Field(4, ge=1)


class GradientInversion(Attack):
    """Has the defense's code and weights and differentiates through it, with the U-Net's answer as prior and start.

    Minimises |mean of D(x) - mean of the releases|^2 + smooth * total variation + stay * |x - start|^2 by Adam. Where
    no gradient comes through the defense, the start is the answer, and the record says so.

    Of photographs it has a generative prior of faces as well, trained on photographs of other people: samples start
    from the U-Net's answer under noise, and are held to the release at every step. People of its own, whom neither the
    U-Net nor the prior has seen, choose by LPIPS between the start, the search, one sample and a mean of samples.
    """

    version = 2
    card = AttackCard(
        title="Gradient inversion",
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
        self._answer = to_bytes(start)
        if not differentiable:
            return
        self._random = len(view.targets) > 1
        self._curve: FloatArray = np.zeros(c.steps)
        wanted = torch.stack([to_float(shot) for shot in view.targets]).mean(0)
        chosen: _Rebuild = self._search
        rows = _choosers(view, data)
        if len(rows):
            own = resize(rebuild(network, data.own[rows], data.own_estimates[rows]), SIZE)
            chosen = self._choose(view, data, rows, own, generator)
        self._curve[:] = 0
        self._answer = to_bytes(chosen(start, wanted, generator))
        self.log |= {"steps": c.steps}
        if self._curve.any():
            self.log["objective"] = [float(f"{v:.4g}") for v in self._curve[:: max(1, c.steps // 6)]]

    def _choose(
        self, view: AttackerView, data: InversionData, rows: torch.Tensor, start: torch.Tensor,
        generator: torch.Generator,
    ) -> _Rebuild:  # fmt: skip
        """The way to rebuild that comes out best by LPIPS on people of the attacker's own; the start, if none helps."""
        c = self.config
        clear = resize(device.to(data.clear[rows]).float() / 255, SIZE)
        assert view.auxiliary_protected is not None
        wanted = to_float(view.auxiliary_protected[data.rows[rows.numpy()]])
        with torch.no_grad():
            held = self._release(resize(resize(clear, SIDE), SIZE), 0)
        error = max(float((held - wanted).square().mean()), _EXACT)
        candidates: dict[str, _Rebuild] = {"start": lambda start, wanted, generator: start, "search": self._search}
        for level in c.levels:
            candidates[f"sample {level}"] = partial(self._sampled, error, level, 1)
            if c.averaged > 1:
                candidates[f"mean of {c.averaged}, {level}"] = partial(self._sampled, error, level, c.averaged)
        found = {}
        for name, rebuilt in candidates.items():
            answer = rebuilt(start, wanted, generator).clamp(0, 1)
            with torch.no_grad():
                found[name] = round(float(perceptual_distance(answer, clear).mean()), 5)
        best = min(found, key=lambda name: found[name])
        self.log["prior"] = {"chosen": best, "choosers": len(rows), "distances": found, "error": float(f"{error:.3g}")}
        return candidates[best]

    def _release(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """The mean of the defense's draws, the same at every call with the same seed."""
        defense: Any = self._defense
        seeds = range(seed, seed + (self.config.draws if self._random else 1))
        draws = [defense.protect(images.clamp(0, 1), torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(draws).mean(0)

    def _sampled(
        self, error: float, level: float, count: int, start: torch.Tensor, wanted: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:  # fmt: skip
        """The mean of ``count`` samples from the start under noise, with those details of the start that 64 pixels lose."""
        c, prior = self.config, face_prior.on(device.current())
        small = resize(start, SIDE)

        def denoise(noisy: torch.Tensor, level: float) -> torch.Tensor:
            with torch.inference_mode():
                parts = [prior(part, part.new_full((len(part),), level)) for part in noisy.split(_BATCH)]
            return torch.cat(parts).clone()

        def guide(expected: torch.Tensor, level: float) -> torch.Tensor:
            pairs = zip(expected.split(_BATCH), wanted.split(_BATCH), strict=True)
            seed = round(1e6 * level)
            return torch.cat([agreeing(part, seen, lambda x: self._release(_enlarged(x), seed), error, trust(level),
                                       c.pulls) for part, seen in pairs])  # fmt: skip

        levels = np.geomspace(level, min(_LAST, level / 2), c.denoisings).tolist()
        found = torch.stack([sample(denoise, small * 2 - 1, levels, generator, guide) for _ in range(count)]).mean(0)
        return start - _grown(small) + _grown((found.clamp(-1, 1) + 1) / 2)

    def _search(self, start: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The descent, a batch at a time."""
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
        return x.detach().clamp(0, 1)

    def run(self, view: AttackerView) -> ByteArray:
        """Reconstructions uint8 (n, 3, 112, 112)."""
        return self._answer


def _choosers(view: AttackerView, data: InversionData) -> torch.Tensor:
    """Rows of photographs of people whom neither the U-Net nor the prior has seen; none where there is no prior."""
    if not view.photographs_of or view.photographs_of in NOT_FOR:
        return torch.empty(0, dtype=torch.int64)
    names: Sequence[str] = view.auxiliary.names
    held_out = data.validation_rows
    unseen = unseen_people([names[int(row)] for row in data.rows[held_out.numpy()]])
    # Without anybody held out, the validation rows are all rows.
    if not bool(data.validation.any()):
        return torch.empty(0, dtype=torch.int64)
    return held_out[torch.from_numpy(unseen)][:_MOST_CHOOSE]


def _grown(images: torch.Tensor) -> torch.Tensor:
    """To the size of the data set."""
    return torch.nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bicubic")


def _enlarged(images: torch.Tensor) -> torch.Tensor:
    """From the prior's range [-1, 1] and size to the defense's."""
    return _grown((images + 1) / 2)


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
