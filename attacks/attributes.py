"""Attribute inference: what is still read off a protected face, whether or not the face can be rebuilt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import Attack, AttackCard, AttackerView
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes

from ._images import enlarge
from ._inverter import InverterConfig, plain_network, rebuild, set_scene
from ._regression import regress


class Attributes(Attack):
    """Measures its own clear images and learns to tell the same of the protected ones.

    Two readings of each attribute, by a regression of it on the whole protected image and off the U-Net's
    reconstruction, are weighed by least squares on held-out people.
    """

    version = 1
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
        """Both readings, and their weights."""
        scene = set_scene(view, self.config.size, self.shots)
        network, log = plain_network(view, self.config)
        truth = np.concatenate([read_attributes(batch) for batch in view.auxiliary.batches(256)])
        mean, spread = truth.mean(0), np.maximum(truth.std(0), 1e-9)
        standard = torch.from_numpy((truth - mean) / spread).float()
        held = torch.nonzero(scene.held if scene.held.any() else ~scene.held).flatten()
        fitted = regress(scene.seen[:, :3], standard, view.auxiliary.identities, scene.held.numpy())
        rebuilt = [
            (read_attributes(enlarge(rebuild(network, seen, first))) - mean) / spread
            for seen, first in ((scene.seen[held], scene.first[held]), (scene.targets, scene.targets_first))
        ]
        direct = fitted.left_out[held].double().numpy(), fitted(scene.targets[:, :3]).double().numpy()
        answers = []
        for i in range(len(ATTRIBUTES)):
            own, target = (
                np.stack([np.ones(len(read)), read[:, i], other[:, i]], axis=1)
                for read, other in zip(direct, rebuilt, strict=True)
            )
            weights, *_ = np.linalg.lstsq(own, standard[held, i].double().numpy(), rcond=None)
            answers.append(target @ weights)
        self._answer: npt.NDArray[np.float64] = np.stack(answers, axis=1) * spread + mean
        self.log |= {"kernel": fitted.name, "strength": fitted.strength}
        self.log |= {"training_images": log["training_images"], "steps": log["steps"]}

    def run(self, view: AttackerView) -> npt.NDArray[np.float64]:
        """float64 (n_targets, attributes), in the units of ``ppfr_bench.metrics.attributes``."""
        return self._answer


ATTACK = Attributes
