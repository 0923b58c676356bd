"""Attacks that train a U-Net from protected to clear images, and the plain U-Net that others start from."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Answers, Arrays, Attack, AttackerView, ByteArray, Config, Material, Scope
from ppfr_bench.learning.inversion import JUDGED, InversionData, inversion_data, read_inversion_data
from ppfr_bench.learning.likeness import measured, structure_loss, unlikeness
from ppfr_bench.learning.observations import IMAGE_CHANNELS, Observations
from ppfr_bench.learning.pretrained import WIDTH, has_pretrained, pretrained_weights
from ppfr_bench.learning.resizing import enlarge, resize
from ppfr_bench.learning.unet import Batch, Inputs, UNet, train, weights_from
from ppfr_bench.metrics import is_better

INPUT_CHANNELS = IMAGE_CHANNELS + 3  # The network is given the observation's images and the estimate.
_VALIDATED = 32  # At most so many of the images that are held out are validated on.
_BATCH = 64
_APART = 4  # Without LPIPS in its loss, training goes on for the steps divided by this.
_STRUCTURAL, _AT = "structural:", "at_"

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # Answer and clear images -> a scalar.


class InverterConfig(Config):
    """Parameters of every inverter.

    Attributes:
        steps: of training.
        batch: images a step.
        width: channels of the network's first level.
        size: working side in pixels; a representation has a working size of its own.
        learning_rate: the greatest of a cycle of training.
        pretrained: whether it starts, on images, from weights that undo random image processing on other faces.
        apart: whether measures are answered apart, by what does best at each on held-out people.
    """

    steps: int = Field(800, ge=1)
    batch: int = Field(8, ge=1)
    width: int = Field(WIDTH, ge=8, multiple_of=8)
    size: int = Field(112, ge=32, le=112, multiple_of=16)
    learning_rate: float = Field(2e-3, gt=0)
    pretrained: bool = True
    apart: bool = True


@dataclass
class Networks:
    """What training leaves.

    Attributes:
        main: of the main answer.
        structural: trained further without LPIPS in its loss; None where there is none.
        at: after parts of the training, by their size in steps.
    """

    main: UNet
    structural: UNet | None = None
    at: dict[int, UNet] = field(default_factory=dict)

    def named(self) -> dict[str, UNet]:
        """All of them by the prefix under which their weights are kept."""
        structural = {_STRUCTURAL: self.structural} if self.structural is not None else {}
        return {"": self.main, **structural, **{f"{_AT}{size}:": network for size, network in self.at.items()}}


class WarmInverterConfig(InverterConfig):
    """Parameters of an inverter that starts from the plain U-Net.

    Attributes:
        steps: of training, after those of the plain U-Net.
        warm: steps of the plain U-Net.
        learning_rate: the greatest of the one-cycle schedule.
    """

    steps: int = Field(200, ge=1)
    warm: int = Field(800, ge=1)
    learning_rate: float = Field(1e-3, gt=0)

    @property
    def plain(self) -> InverterConfig:
        """Parameters of the plain U-Net that training starts from."""
        return InverterConfig(
            steps=self.warm, batch=self.batch, width=self.width, size=self.size, pretrained=self.pretrained,
            apart=self.apart,
        )  # fmt: skip


class Inverter(Attack):
    """U-Net that learns what it is judged by; attack ``unet``, and the base of those with another start, data or loss.

    On images it starts from pre-trained weights (``learning/pretrained``). It trains on nine tenths of the auxiliary
    people, and keeps the weights that do best on the others. At the end a copy goes on without LPIPS in its loss.
    Held-out people say by which of both, or by the closed-form estimate, each measure is answered.
    """

    Config = InverterConfig
    answers_apart: ClassVar[bool] = True  # Whether measures have answers of their own.

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data, with as many shots as the attack asks for."""
        return (inversion_data(scope, self.config.size, self.shots),)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train the network of ``start`` under ``loss`` on what ``batches`` gives."""
        c = self.config
        self.data = data = read_inversion_data(view, c.size, self.shots)
        self.networks = networks = Networks(self.start(view, generator))
        rows = data.some_validation_rows(_VALIDATED)
        clear = device.to(data.clear[rows]).float() / 255

        def validate(network: UNet, loss: Loss) -> float:
            answer = rebuild(network, data.own[rows], data.own_estimates[rows])
            with torch.no_grad():
                return float(loss(answer, clear))

        def keep(size: int) -> None:
            networks.at[size] = copy.deepcopy(networks.main)

        self.prepare(view)
        batches = self.batches(view, generator)
        main = networks.main
        found = train(
            main, batches, c.steps, c.learning_rate, self.loss, lambda: validate(main, self.validation_loss), keep
        )
        if self.answers_apart and c.apart:
            networks.structural = structural = copy.deepcopy(main)
            steps = max(1, c.steps // _APART)
            own = train(
                structural, batches, steps, c.learning_rate / 2, structure_loss,
                lambda: validate(structural, structure_loss),
            )  # fmt: skip
            found["structural_validation"] = own["validation"]
        self.log |= data.log | found | {"batch": c.batch}

    @property
    def network(self) -> UNet:
        """The network of the main answer."""
        return self.networks.main

    def prepare(self, view: AttackerView) -> None:
        """Fetch what the loss needs. Default: nothing."""

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The network before training, on the current device. Default: pre-trained on images, else a new one."""
        network = new_unet(self.config.width, generator, *self.data.representation_channels)
        if self.config.pretrained and has_pretrained(view, self.config.width):
            network.load_state_dict(pretrained_weights())
            self.log["pretrained"] = True
        return network

    def batches(self, view: AttackerView, generator: torch.Generator) -> Iterator[Batch]:
        """What is trained on. Default: the data's people that are not held out."""
        return batches_of(self.data, self.config.batch, generator)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """What training minimises: float32 (n, 3, s, s) twice -> a scalar. Default: L1, SSIM and LPIPS together."""
        return unlikeness(answer, clear)

    def validation_loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """What decides, on held-out people, which weights are kept; arguments as of ``loss``. Default: the loss."""
        return self.loss(answer, clear)

    def run(self, view: AttackerView) -> Answers:
        """Reconstructions uint8 (n, 3, 112, 112): the main ones, by measure, and after parts of the training."""
        data = self.data

        def answer(network: UNet) -> ByteArray:
            return enlarge(rebuild(network, data.targets, data.target_estimates))

        main, by_measure = answer(self.networks.main), {}
        if (structural := self.networks.structural) is not None:
            of_networks = {"main": main, "structural": answer(structural)}
            for metric, chosen in self.chosen(view).items():
                if chosen == "closed form":
                    by_measure[metric] = enlarge(data.estimates_by[metric].float() / 255)
                elif chosen != "main":
                    by_measure[metric] = of_networks[chosen]
        at = {size: answer(network) for size, network in self.networks.at.items()}
        if at and by_measure:
            at[self.log["steps"]] = main
        return Answers(main, by_measure, at)

    def chosen(self, view: AttackerView) -> dict[str, str]:
        """By measure, what answers it best on held-out people: ``main``, ``structural`` or ``closed form``."""
        assert self.networks.structural is not None, "there is something to choose from"
        data = self.data
        rows = data.some_validation_rows(JUDGED)
        clear = view.auxiliary.load(data.rows[rows.numpy()])
        found = {
            name: measured(rebuild(network, data.own[rows], data.own_estimates[rows]), clear)
            for name, network in (("main", self.networks.main), ("structural", self.networks.structural))
        }
        if data.validation.any():  # What the closed form reaches is known of people whom it did not learn from.
            found["closed form"] = data.held_out_by
        best = {}
        for metric in found["main"]:
            best[metric] = "main"
            for name in ("structural", "closed form"):
                if metric in found.get(name, {}) and is_better(
                    metric, found[name][metric], found[best[metric]][metric]
                ):
                    best[metric] = name
        self.log["answered_by"] = best
        self.log["held_out"] = {metric: round(float(found[name][metric]), 5) for metric, name in best.items()}
        return best


class WarmInverter(Inverter):
    """An inverter that starts from the plain U-Net, which is trained once for all that declare the same."""

    Config = WarmInverterConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The data, and the plain U-Net after ``config.warm`` steps."""
        return (*super().starts_from(scope), plain_unet(scope, self.config.plain))

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The plain U-Net after ``config.warm`` steps."""
        network, self.log["start"] = read_plain_unet(view, self.config.plain)
        return network


def plain_unet(scope: Scope, config: InverterConfig) -> Material:
    """The material ``unet``: the weights of an ``Inverter``, trained on one shot, and its log.

    ``read_plain_unet`` reads it under the same arguments. It starts from ``inversion_data(scope, config.size, 1)``.
    """
    return trained(Inverter, config, "unet", version=6, scope=scope)


def read_plain_networks(view: AttackerView, config: InverterConfig) -> tuple[Networks, dict[str, Any]]:
    """The networks of the material ``plain_unet(view.scope, config)``, on the current device, and its log.

    Raises:
        UserError: the attack did not declare that material.
    """
    return read_networks(view.material(plain_unet(view.scope, config)), config.width)


def read_plain_unet(view: AttackerView, config: InverterConfig) -> tuple[UNet, dict[str, Any]]:
    """The main one of ``read_plain_networks``, and the log."""
    return read_network(view.material(plain_unet(view.scope, config)), config.width)


def trained(
    kind: type[Inverter], config: InverterConfig, name: str, version: int, scope: Scope, needs_surrogate: bool = False
) -> Material:
    """A material: the weights of an inverter that is trained once for all that declare it, and its log.

    Args:
        kind: of the inverter.
        config: its parameters, which are the material's spec beside the version.
        name: of the material.
        version: of the material.
        scope: of the view; what the inverter starts from comes first.
        needs_surrogate: whether it learns from the surrogate.
    """
    spec = config.model_dump() | {"version": version}
    return Material(
        name, spec, partial(_train, kind, config), kind(config).starts_from(scope), queries=False,
        needs_surrogate=needs_surrogate,
    )  # fmt: skip


def _train(kind: type[Inverter], config: InverterConfig, view: AttackerView, generator: torch.Generator) -> Arrays:
    inverter = kind(config)
    inverter.fit(view, generator)
    # Materials are NumPy arrays, as they are kept in files and serve every device.
    weights = {
        f"{prefix}{key}": tensor.cpu().numpy()
        for prefix, network in inverter.networks.named().items()
        for key, tensor in network.state_dict().items()
    }
    return weights | {"log": np.array(json.dumps(inverter.log))}


def read_networks(arrays: Arrays, width: int) -> tuple[Networks, dict[str, Any]]:
    """The networks of a material that ``trained`` made, on the current device, and its log.

    Args:
        arrays: of the material.
        width: of the inverter's config.
    """
    first, last = arrays.get("read.0.weight"), arrays.get("read.2.weight")
    channels = 0 if first is None else int(first.shape[1])
    finer = 1 if last is None else round((last.shape[0] / width) ** 0.5)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, array in arrays.items():
        prefix, mark, name = key.rpartition(":")
        if name != "log":
            parts.setdefault(prefix + mark, {})[name] = torch.from_numpy(np.array(array))

    def network(prefix: str) -> UNet:
        made = new_unet(width, torch.Generator().manual_seed(0), channels, finer)
        made.load_state_dict(parts[prefix])
        return made

    found = Networks(network(""))
    if _STRUCTURAL in parts:
        found.structural = network(_STRUCTURAL)
    found.at = {int(prefix[len(_AT) : -1]): network(prefix) for prefix in parts if prefix.startswith(_AT)}
    return found, json.loads(str(arrays["log"]))


def read_network(arrays: Arrays, width: int) -> tuple[UNet, dict[str, Any]]:
    """The main one of ``read_networks``, and the log."""
    main = {key: array for key, array in arrays.items() if ":" not in key}
    networks, log = read_networks(main, width)
    return networks.main, log


def new_unet(width: int, generator: torch.Generator, channels: int = 0, finer: int = 1) -> UNet:
    """A network that corrects nothing yet, its first weights from ``generator``, on the current device.

    Args:
        width: channels of the first level.
        generator: on the CPU, so that the weights are the same on every device.
        channels: of a representation, 0 for none; see ``UNet``.
        finer: see ``UNet``.
    """
    with weights_from(generator):
        network = UNet(INPUT_CHANNELS, width, channels, finer).to(memory_format=torch.channels_last)
    return device.to(network)


def network_inputs(observations: Observations, estimates: torch.Tensor) -> Inputs:
    """What the network is given, on the current device.

    Args:
        observations: of n images, on any device.
        estimates: ``enlarged`` to their size.

    Returns:
        float32 (n, 16, s, s), channels_last; of a representation a pair with its channels in [0, 1].
    """
    observations = observations.on_device()
    images = torch.cat([observations.for_network(), estimates], dim=1)
    images = images.contiguous(memory_format=torch.channels_last)
    if observations.channels is None:
        return images
    return images, observations.channels.float().contiguous(memory_format=torch.channels_last)


def enlarged(estimates: torch.Tensor, size: int) -> torch.Tensor:
    """Estimates uint8 (n, 3, e, e), on any device -> float32 (n, 3, size, size) in [0, 1], on the current one."""
    return resize(device.to(estimates).float() / 255, size)


def batches_of(data: InversionData, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Endless batches of ``size`` images of the people that are not held out, in an order drawn anew every round."""
    rows = data.training_rows
    while True:
        order = rows[torch.randperm(len(rows), generator=generator)]
        for start in range(0, max(1, len(order) - size + 1), size):
            chosen = order[start : start + size]
            estimates, clear = enlarged(data.own_estimates[chosen], data.size), device.to(data.clear[chosen])
            yield network_inputs(data.own[chosen], estimates), estimates, clear.float() / 255


def rebuild(network: UNet, observations: Observations, estimates: torch.Tensor) -> torch.Tensor:
    """The network's answer: estimate plus correction.

    Args:
        network: on the current device; it is put into evaluation mode.
        observations: of n images, on any device.
        estimates: uint8 (n, 3, e, e), on any device.

    Returns:
        float32 (n, 3, s, s) in [0, 1], on the current device.
    """
    network.eval()
    parts = []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(observations), _BATCH):
            part = slice(start, start + _BATCH)
            some, given = observations[part], enlarged(estimates[part], observations.images.shape[-1])
            parts.append((network(network_inputs(some, given)).float() + given).clamp(0, 1))
    return torch.cat(parts)
