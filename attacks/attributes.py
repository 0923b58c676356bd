"""Attribute inference: what is still read off a protected face, whether or not the face can be rebuilt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import Attack, AttackCard, AttackerView
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes

from ._images import enlarge
from ._inverter import InverterConfig, Seen, plain_network, rebuild, set_scene
from ._network import UNet


class Attributes(Attack):
    """Reads each attribute off two reconstructions, the closed-form one and the U-Net's.

    How far to trust which, and when to fall back on what is usual, least squares on held-out people settles, of
    whom neither reconstruction has learnt.
    """

    version = 2
    card = AttackCard(
        title="Attribute inference",
        family="attributes",
        reference="attack 7 of the threat model; skin tone after Chardon et al. 1991",
        licence="MIT",
        measures="attributes",
        knowledge="aware",
        learned=True,
    )
    Config = InverterConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """The weights of both readings, and the answer."""
        scene = set_scene(view, self.config.size, self.shots)
        network, log = plain_network(view, self.config)
        held = torch.nonzero(scene.held if scene.held.any() else ~scene.held).flatten()
        truth = read_attributes(view.auxiliary.load(held.numpy()))
        own = _readings(network, scene.seen[held], scene.first[held])
        targets = _readings(network, scene.targets, scene.targets_first)
        self._answer = np.empty((len(scene.targets), len(ATTRIBUTES)))
        for i, of in enumerate(truth.T):
            weights, *_ = np.linalg.lstsq(own[:, i], of, rcond=None)
            self._answer[:, i] = targets[:, i] @ weights
        self.log |= {"training_images": log["training_images"], "steps": log["steps"], "weighed_on": len(held)}

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        """float64 (n_targets, attributes), in the units of ``ppfr_bench.metrics.attributes``."""
        return self._answer


def _readings(network: UNet, seen: Seen, first: torch.Tensor) -> npt.NDArray[np.float64]:
    """(n, attributes, 3): one, what is read off the first answer, and off the network's."""
    read = [read_attributes(enlarge(images)) for images in (first.float() / 255, rebuild(network, seen, first))]
    return np.stack([np.ones_like(read[0]), *read], axis=2)


ATTACK = Attributes
