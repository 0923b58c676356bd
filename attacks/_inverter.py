"""What the learned reconstruction attacks share: what they see, their closed-form first answer, the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Arrays, Attack, AttackerView, Config, to_float

from ._decoding import Decoder, fit_decoder
from ._images import enlarge, held_out, resize, shrink_faces
from ._network import Batch, Inputs, UNet, mixed_precision, train
from ._regression import regress_best

Images = npt.NDArray[np.uint8]
REPRESENTED = 56  # working side in pixels where a representation is read: two pixels a place of the usual 28
CHANNELS = 10  # of an observation: pixels 3, low bits 3, texture 1, spread over shots 3
HELD_OUT = 0.1  # of the people, to validate on
_VALIDATED = 128  # images
_BATCH = 128


class InverterConfig(Config):
    """``size``: working side in pixels; ``width``: channels of the network's first level."""

    steps: int = Field(800, ge=1)
    batch: int = Field(16, ge=1)
    width: int = Field(16, ge=8, multiple_of=8)
    size: int = Field(64, ge=32, le=112, multiple_of=32)
    learning_rate: float = Field(2e-3, gt=0)


@dataclass(frozen=True)
class Seen:
    """What is seen of n releases, half precision in [0, 1].

    Attributes:
        images: (n, 10, s, s), of the pictures.
        channels: (n, 2 c, h, w), of a representation: its c channels, and the same in order of strength, so that a
            shuffle of its own for every image hides less.
    """

    images: torch.Tensor
    channels: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: torch.Tensor | slice) -> Seen:
        return Seen(self.images[rows], None if self.channels is None else self.channels[rows])

    def views(self) -> dict[str, torch.Tensor]:
        """What a regression of the whole can start from, by name."""
        if self.channels is None:
            return {"images": self.images[:, :3]}
        told, by_strength = self.channels.chunk(2, dim=1)
        return {"picture": self.images[:, :3], "channels": told, "by strength": by_strength}


def observe(view: AttackerView, shots: npt.NDArray[np.uint8], size: int, decoder: Decoder | None) -> Seen:
    """What a network is shown of (k, n, 3, h, w) bytes as released."""
    parts = [np.asarray(shots[:, start : start + _BATCH]) for start in range(0, shots.shape[1], _BATCH)]
    if not view.representation:
        return Seen(_seen_images(parts, size, decoder))
    pictures = [np.stack([view.picture(shot) for shot in part]) for part in parts]
    return Seen(_seen_images(pictures, size, None), torch.cat([_seen_channels(part) for part in parts]))


def _seen_channels(shots: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Means over the shots of the channels, as they came and by strength."""
    told, ordered = [], []
    for shot in shots:
        channels = to_float(shot)
        order = channels.std((2, 3)).argsort(dim=1, descending=True)
        told.append(channels)
        ordered.append(channels.gather(1, order[:, :, None, None].expand_as(channels)))
    return torch.cat([torch.stack(found).mean(0) for found in (told, ordered)], dim=1).half()


def _seen_images(batches: list[npt.NDArray[np.uint8]], size: int, decoder: Decoder | None) -> torch.Tensor:
    """Of pictures (k, n, 3, h, w), batch by batch, (n, 10, size, size).

    The mean of the shots (decoded, where a key was found); their low four bits, in which things hide from a network;
    the local deviation of the luma, which shrinking would average away; the spread over the shots.
    """
    parts = []
    for released in batches:
        seen = released if decoder is None else np.stack([decoder(shot) for shot in released])
        images = torch.stack([resize(to_float(shot), size) for shot in seen])
        low = torch.stack([resize((torch.from_numpy(shot) & 15).float() / 15, size) for shot in released]).mean(0)
        luma = to_float(seen[0]).mean(1, keepdim=True)
        texture = (resize(luma.square(), size) - resize(luma, size).square()).clamp_min(0).sqrt()
        spread = images.std(0) if len(images) > 1 else torch.zeros_like(images[0])
        parts.append(torch.cat([images.mean(0), low, texture, spread], dim=1).half())
    return torch.cat(parts)


@dataclass
class Scene:
    """One attacker's material at its working size, with the closed-form answer for every image.

    Attributes:
        clear: uint8 (n, 3, s, s), the attacker's own images; ``seen`` and ``first``: what is seen of their protected
            versions, and the first answer to each with that person left out.
        view: of ``Seen.views``, the one that the first answer starts from.
        targets, targets_first: the same of the targets.
        held: bool (n,), the people validated on.
    """

    clear: torch.Tensor
    seen: Seen
    first: torch.Tensor
    targets: Seen
    targets_first: torch.Tensor
    held: torch.Tensor
    decoder: Decoder | None
    view: str
    log: dict[str, Any]

    @property
    def size(self) -> int:
        return int(self.clear.shape[-1])

    @property
    def channels(self) -> tuple[int, int]:
        """What ``UNet`` asks of a representation: its channels, 0 of images, and how much coarser its grid is."""
        found = self.seen.channels
        return (0, 1) if found is None else (int(found.shape[1]), max(1, self.size // 2 // found.shape[-1]))


def set_scene(view: AttackerView, size: int, shots: int) -> Scene:
    """The scene of so many shots (fewer where the view has fewer), shared by all attacks that ask for the same."""
    protected = view.auxiliary_protected
    assert protected is not None, "an aware attacker is given its protected images"
    shots = min(shots, len(view.targets))
    if view.representation:
        size = REPRESENTED
    clear, identities = shrink_faces(view.auxiliary, size), view.auxiliary.identities

    def compute(generator: torch.Generator) -> dict[str, npt.NDArray[Any]]:
        validation = held_out(identities, HELD_OUT, generator)
        decoder = None if view.representation else fit_decoder(protected, view.auxiliary, validation)
        seen = _observe_own(view, size, shots, decoder)
        targets = observe(view, view.targets[:shots], size, decoder)
        name, fitted = regress_best(seen.views(), clear.flatten(1).float() / 255, identities, validation)
        note = {"kernel": fitted.name, "strength": fitted.strength, "errors": fitted.error}
        channels = {"channels": seen.channels, "targets_channels": targets.channels}
        of_channels = {key: found.numpy() for key, found in channels.items() if found is not None}
        return of_channels | {
            "seen": seen.images.numpy(),
            "first": as_bytes(fitted.left_out, size).numpy(),
            "targets": targets.images.numpy(),
            "targets_first": as_bytes(fitted(targets.views()[name]), size).numpy(),
            "held": validation,
            "view": np.array(name),
            "decoder": decoder.weights.numpy() if decoder else np.empty(0, np.float32),
            "log": np.array(json.dumps(note)),
        }

    found = view.workbench.share("scene", {"size": size, "shots": shots, "version": 2}, compute)
    texts = ("log", "view")
    arrays = {name: torch.from_numpy(np.array(found[name])) for name in found if name not in texts}
    decoder = Decoder(arrays["decoder"]) if arrays["decoder"].numel() else None
    log = {"training_images": int((~arrays["held"]).sum()), "shots": shots, "decoded": decoder is not None,
           "closed_form": json.loads(str(found["log"]))}  # fmt: skip
    name = str(found["view"]) if "view" in found else "images"
    if view.representation:
        log["closed_form"]["of"] = name
    seen, targets = (Seen(arrays[of], arrays.get(channels)) for of, channels in
                     (("seen", "channels"), ("targets", "targets_channels")))  # fmt: skip
    return Scene(clear, seen, arrays["first"], targets, arrays["targets_first"], arrays["held"], decoder, name, log)


def _observe_own(view: AttackerView, size: int, shots: int, decoder: Decoder | None) -> Seen:
    """The attacker's own images as seen through the defense: once from the file, further shots from the oracle."""
    assert view.auxiliary_protected is not None
    parts, start = [], 0
    for batch in view.auxiliary.batches(_BATCH):
        first = np.asarray(view.auxiliary_protected[start : start + len(batch)])
        more = [view.oracle.protect(batch) for _ in range(shots - 1)] if view.oracle is not None else []
        parts.append(observe(view, np.stack([first, *more]), size, decoder))
        start += len(batch)
    channels = [part.channels for part in parts if part.channels is not None]
    return Seen(torch.cat([part.images for part in parts]), torch.cat(channels) if channels else None)


def as_bytes(flat: torch.Tensor, size: int) -> torch.Tensor:
    """float (n, 3 * size * size) -> uint8 (n, 3, size, size)."""
    return (flat.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3, size, size)


def inputs_of(seen: Seen, first: torch.Tensor) -> Inputs:
    """Observations and first answers -> (n, 13, s, s) in [0, 1], channels_last; with them the channels, if any."""
    both = torch.cat([seen.images.float(), first.float() / 255], dim=1)
    both = both.contiguous(memory_format=torch.channels_last)
    if seen.channels is None:
        return both
    return both, seen.channels.float().contiguous(memory_format=torch.channels_last)


def new_network(width: int, generator: torch.Generator, channels: int = 0, finer: int = 1) -> UNet:
    """A network that corrects nothing yet, its weights from the generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
        return UNet(CHANNELS + 3, width, channels, finer).to(memory_format=torch.channels_last)


def batches_of(scene: Scene, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Endless batches of (inputs, first answer, clear) of the people that are not held out."""
    rows = torch.nonzero(~scene.held).flatten()
    while True:
        order = rows[torch.randperm(len(rows), generator=generator)]
        for start in range(0, max(1, len(order) - size + 1), size):
            chosen = order[start : start + size]
            yield (inputs_of(scene.seen[chosen], scene.first[chosen]), scene.first[chosen].float() / 255,
                   scene.clear[chosen].float() / 255)  # fmt: skip


def rebuild(network: UNet, seen: Seen, first: torch.Tensor) -> torch.Tensor:
    """float32 (n, 3, s, s) in [0, 1]: first answer and correction."""
    network.eval()
    parts = []
    with torch.inference_mode(), mixed_precision():
        for start in range(0, len(seen), _BATCH):
            part = slice(start, start + _BATCH)
            some, answers = seen[part], first[part]
            parts.append((network(inputs_of(some, answers)).float() + answers.float() / 255).clamp(0, 1))
    return torch.cat(parts)


class Inverter(Attack):
    """Base: trains the network from ``start`` under ``loss`` on what ``batches`` gives, answers the targets."""

    Config = InverterConfig

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Train on nine tenths of the auxiliary people, validate on the rest."""
        c = self.config
        self.scene = scene = set_scene(view, c.size, self.shots)
        self.network = self.start(view, generator)
        # One person only: nobody is left to validate on, and the curve is that of training.
        held = torch.nonzero(scene.held if scene.held.any() else ~scene.held).flatten()[:_VALIDATED]
        clear = scene.clear[held].float() / 255

        def validate() -> float:
            return float(self.verdict(rebuild(self.network, scene.seen[held], scene.first[held]), clear))

        self.prepare(view)
        batches = self.batches(view, generator)
        found = train(self.network, batches, c.steps, c.learning_rate, self.loss, validate)
        self.log |= scene.log | found | {"batch": c.batch}

    def prepare(self, view: AttackerView) -> None:
        """Whatever the loss needs. Default: nothing."""

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The network before training. Default: a new one."""
        return new_network(self.config.width, generator, *self.scene.channels)

    def batches(self, view: AttackerView, generator: torch.Generator) -> Iterator[Batch]:
        """What is trained on. Default: the scene."""
        return batches_of(self.scene, self.config.batch, generator)

    def loss(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, s, s) twice -> a scalar. Default: L1."""
        return functional.l1_loss(answer, clear)

    def verdict(self, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """What decides, on held-out people, which weights are kept. Default: the loss."""
        return self.loss(answer, clear)

    def run(self, view: AttackerView) -> Images:
        """Reconstructions uint8 (n, 3, 112, 112)."""
        return enlarge(rebuild(self.network, self.scene.targets, self.scene.targets_first))


class WarmInverter(Inverter):
    """An inverter that starts from the plain U-Net, trained once for all that ask for the same."""

    def start(self, view: AttackerView, generator: torch.Generator) -> UNet:
        """The plain network after ``config.warm`` steps."""
        c = self.config
        plain = InverterConfig(steps=c.warm, batch=c.batch, width=c.width, size=c.size)
        network, log = plain_network(view, plain)
        self.log["start"] = log
        return network


def plain_network(view: AttackerView, config: InverterConfig) -> tuple[UNet, dict[str, Any]]:
    """The U-Net of one shot under L1, and what is to be recorded of its training."""

    return fitted_once(view, _Plain(config), "unet", version=2)


def fitted_once(view: AttackerView, attack: Inverter, name: str, version: int) -> tuple[UNet, dict[str, Any]]:
    """The network of ``attack`` and its log, trained once a workbench; ``version`` of what is kept under ``name``."""

    def compute(generator: torch.Generator) -> dict[str, npt.NDArray[Any]]:
        attack.fit(view, generator)
        weights = {key: tensor.numpy() for key, tensor in attack.network.state_dict().items()}
        return weights | {"log": np.array(json.dumps(attack.log))}

    found = view.workbench.share(name, attack.config.model_dump() | {"version": version}, compute)
    return _kept_network(found, attack.config.width), json.loads(str(found["log"]))


def _kept_network(found: Arrays, width: int) -> UNet:
    """The network whose weights a workbench kept, beside a log."""
    read, last = found.get("read.0.weight"), found.get("read.2.weight")
    channels = 0 if read is None else int(read.shape[1])
    finer = 1 if last is None else round((last.shape[0] / width) ** 0.5)
    network = new_network(width, torch.Generator().manual_seed(0), channels, finer)
    network.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in found.items() if name != "log"})
    return network


class _Plain(Inverter):
    """The plain network; ``unet`` is its face to the world."""
