"""Adversarial inversion learning: an inverter trained against the live defense."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import AttackCard, AttackerView

from ._images import shrink
from ._inverter import Images, InverterConfig, WarmInverter, as_bytes, inputs_of, observe
from ._network import Batch
from ._regression import regress


class AdversarialInversionConfig(InverterConfig):
    """``releases``: shots of each target and of each training image; ``warm``: steps of the network it starts from."""

    steps: int = Field(400, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    releases: int = Field(4, ge=1, le=64)


class AdversarialInversion(WarmInverter):
    """Queries the live defense at every step: fresh randomness, fresh images, several shots; longer than the others.

    Every batch is drawn anew, mirrored or shifted, and protected on the spot, so that it learns the expectation over
    the defense's randomness and not the draws of one file. The closed-form first answer to an image comes from a
    regression over the other half of the people.
    """

    version = 1
    card = AttackCard(
        title="Adversarial inversion learning",
        family="adversarial",
        reference="threat of arXiv 2412.08276; expectation over transformation, Athalye et al., ICML 2018",
        licence="MIT",
        measures="appearance",
        knowledge="informed",
        learned=True,
        builds_on=("unet", "averaging"),
    )
    Config = AdversarialInversionConfig

    @property
    def shots(self) -> int:
        """As many as it trains on."""
        return int(self.config.releases)

    def batches(self, view: AttackerView, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches through the live defense."""
        assert view.oracle is not None
        scene, size, faces = self.scene, self.scene.size, view.auxiliary
        shots = int(scene.log["shots"])
        identities, held = faces.identities, scene.held.numpy()
        people = np.unique(identities)
        half = np.isin(identities, people[torch.randperm(len(people), generator=generator).numpy()[: len(people) // 2]])
        clear, told = scene.clear.flatten(1).float() / 255, scene.seen.views()[scene.view]
        fitted = []
        for part in (half, ~half):
            rows = torch.from_numpy(np.flatnonzero(part if part.any() else ~part))
            fitted.append(regress(told[rows], clear[rows], identities[rows], held[rows.numpy()]))
        mine = np.flatnonzero(~held)
        while True:
            order = mine[torch.randperm(len(mine), generator=generator).numpy()]
            for start in range(0, max(1, len(order) - self.config.batch + 1), self.config.batch):
                chosen = np.sort(order[start : start + self.config.batch])
                images = _moved(faces.load(chosen), generator)
                seen = observe(view, np.stack([view.oracle.protect(images) for _ in range(shots)]), size, scene.decoder)
                answers = [as_bytes(regression(seen.views()[scene.view]), size) for regression in fitted]
                first = torch.where(torch.from_numpy(half[chosen])[:, None, None, None], answers[1], answers[0])
                yield inputs_of(seen, first), first.float() / 255, shrink(images, size).float() / 255


def _moved(images: Images, generator: torch.Generator) -> Images:
    """Half of the batches mirrored, each shifted by up to two pixels."""
    mirrored, dy, dx = (int(torch.randint(0, n, (1,), generator=generator)) for n in (2, 5, 5))
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    height, width = images.shape[2:]
    cut = padded[:, :, dy : dy + height, dx : dx + width]
    return np.ascontiguousarray(cut[..., ::-1] if mirrored else cut)


ATTACK = AdversarialInversion
