"""Adversarial inversion learning: an inverter trained against the live defense."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import AttackCard, AttackerView, ByteArray
from ppfr_bench.learning.inversion import as_bytes
from ppfr_bench.learning.inverter import WarmInverter, WarmInverterConfig, enlarged, network_inputs
from ppfr_bench.learning.kernel_ridge import fit_kernel_ridge
from ppfr_bench.learning.observations import observe
from ppfr_bench.learning.resizing import shrink, shrink_faces
from ppfr_bench.learning.unet import Batch


class AdversarialInversionConfig(WarmInverterConfig):
    """``releases``: shots of each target and of each training image; ``warm``: steps of the network it starts from."""

    steps: int = Field(400, ge=1)
    releases: int = Field(4, ge=1, le=64)


class AdversarialInversion(WarmInverter):
    """Queries the live defense at every step: fresh randomness, fresh images, several shots; longer than the others.

    Every batch is drawn anew, mirrored or shifted, and protected on the spot, so that it learns the expectation over
    the defense's randomness and not the draws of one file. The closed-form estimate of an image comes from a
    regression over the other half of the people.
    """

    version = 4
    card = AttackCard(
        title="Adversarial inversion learning",
        plain="A neural network that rebuilds faces. It trains against the running defense and protects new photos "
        "at every step, so that it learns what the defense does on average and not what it did once.",
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
        """Endless batches through the live defense; of images at hand, where each had a key of its own to be undone."""
        if self.data.key:
            yield from super().batches(view, generator)
        assert view.oracle is not None
        data, size, faces = self.data, self.data.size, view.auxiliary
        shots = int(data.log["shots"])
        identities, validation = faces.identities, data.validation.numpy()
        people = np.unique(identities)
        half = np.isin(identities, people[torch.randperm(len(people), generator=generator).numpy()[: len(people) // 2]])
        side = data.estimate_size
        clear = shrink_faces(faces, side).flatten(1).float() / 255
        inputs = data.own.regression_inputs(side)[data.estimated_from]
        fitted = []
        for part in (half, ~half):
            rows = torch.from_numpy(np.flatnonzero(part if part.any() else ~part))
            mask = validation[rows.numpy()]
            fitted.append(fit_kernel_ridge(inputs[rows], clear[rows], identities[rows.numpy()], mask))
        mine = np.flatnonzero(~validation)
        while True:
            order = mine[torch.randperm(len(mine), generator=generator).numpy()]
            for start in range(0, max(1, len(order) - self.config.batch + 1), self.config.batch):
                chosen = np.sort(order[start : start + self.config.batch])
                images = _moved(faces.load(chosen), generator)
                released = np.stack([view.oracle.protect(images) for _ in range(shots)])
                own = observe(view, released, size, data.decoder, data.reading)
                given = own.regression_inputs(side)[data.estimated_from]
                of_half, of_others = (as_bytes(regression(given), side) for regression in fitted)
                in_half = device.to(torch.from_numpy(half[chosen]))[:, None, None, None]
                estimates = enlarged(torch.where(in_half, of_others, of_half), size)
                batch = device.to(shrink(images, size)).float() / 255
                yield network_inputs(own, estimates), estimates, batch


def _moved(images: ByteArray, generator: torch.Generator) -> ByteArray:
    """Half of the batches mirrored, each shifted by up to two pixels."""
    mirrored, dy, dx = (int(torch.randint(0, n, (1,), generator=generator)) for n in (2, 5, 5))
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    height, width = images.shape[2:]
    cut = padded[:, :, dy : dy + height, dx : dx + width]
    return np.ascontiguousarray(cut[..., ::-1] if mirrored else cut)


ATTACK = AdversarialInversion
