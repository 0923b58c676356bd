"""Attribute inference: what is still read off a protected face, whether or not the face can be rebuilt."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, FloatArray, Material, Scope
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import InverterConfig, plain_unet, read_plain_networks, rebuild
from ppfr_bench.learning.resizing import enlarge
from ppfr_bench.learning.unet import UNet
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes


class Attributes(Attack):
    """Reads each attribute off two reconstructions, the closed-form one and the U-Net's.

    Least squares on held-out people, from whom neither reconstruction has learnt, weighs the two readings and a
    constant.
    """

    version = 6
    card = AttackCard(
        title="Attribute inference",
        plain="Reads skin tone, brow tone, facial hair and lip colour off a protected face, even where the face cannot "
        "be rebuilt.",
        family="attributes",
        reference="attack 7 of the threat model; skin tone after Chardon et al. 1991",
        licence="MIT",
        measures="attributes",
        knowledge="aware",
        learned=True,
    )
    Config = InverterConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of one shot, and the plain U-Net."""
        return inversion_data(scope, self.config.size, self.shots), plain_unet(scope, self.config)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """The weights of both readings, and the answer."""
        data = read_inversion_data(view, self.config.size, self.shots)
        networks, log = read_plain_networks(view, self.config)
        rows = data.validation_rows
        truth = read_attributes(view.auxiliary.load(data.rows[rows.numpy()]))
        shown = ((data.own[rows], data.own_estimates[rows]), (data.targets, data.target_estimates))
        of_estimates = [_read(estimates.float() / 255) for _, estimates in shown]

        def answer(network: UNet) -> FloatArray:
            own, targets = (
                np.stack([np.ones_like(known), known, _read(rebuild(network, *given))], axis=2)
                for known, given in zip(of_estimates, shown, strict=True)
            )
            found = np.empty((len(data.targets), len(ATTRIBUTES)))
            for i, of in enumerate(truth.T):
                # NumPy computes it on the CPU, as torch calls another LAPACK, which would change the last bits.
                weights, *_ = np.linalg.lstsq(own[:, i], of, rcond=None)
                found[:, i] = targets[:, i] @ weights
            return found

        at = {size: answer(network) for size, network in networks.at.items()}
        self._answers = Answers(answer(networks.main), at=at)
        self.log |= {"shots": data.log["shots"], "training_images": log["training_images"], "steps": log["steps"],
                     "weighed_on": len(rows)}  # fmt: skip

    def run(self, view: AttackerView) -> Answers:
        """float64 (n_targets, attributes), in the units of ``ppfr_bench.metrics.attributes``."""
        return self._answers


def _read(images: torch.Tensor) -> FloatArray:
    """float32 (n, 3, s, s) in [0, 1] -> (n, attributes)."""
    return read_attributes(enlarge(images))


ATTACK = Attributes
