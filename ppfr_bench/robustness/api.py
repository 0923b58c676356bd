"""The nouns of the robustness track: the service that is attacked, its hardening, and what an attacker is given.

All norms and radii are of images in [0, 1] of 3 x 112 x 112 values, whatever resolution a network looks at.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, ByteArray, Faces, FloatArray, IntArray, Method, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.robustness.smoothing import ABSTAINS, NORMS, Certificate, Noise, certify, significant

__all__ = [
    "LARGER", "REFERENCE", "Access", "Given", "HardenedClassifier", "Hardening", "RandomNetwork", "RobustnessView",
    "Service", "WhiteBox", "certified_at", "distance", "impersonated",
]  # fmt: skip

Access = Literal["white_box", "probabilities", "labels"]
REFERENCE = 1.0  # Robustness and what is certified are told of changes up to this l2 norm.
LARGER = 8.0  # What is found without gradients is told of changes up to this one: 10 of 255 levels a value on average.
_AT_ONCE = 128  # Noisy images that a network is given at once.


class Service:
    """A closed-set identification service as a black box: images in, one answer an image out; it counts.

    Args:
        network: images float32 (n, 3, 112, 112) in [0, 1] -> logits (n, classes).
        access: ``labels`` answers with the most likely class alone, as 0 and 1.
    """

    def __init__(self, network: nn.Module, classes: int, access: Access = "probabilities") -> None:
        self._network, self.classes, self.access = network, classes, access
        self._queries = 0

    @property
    def queries(self) -> int:
        """Images that were sent so far."""
        return self._queries

    def query(self, images: ByteArray) -> Tensor:
        """uint8 (n, 3, 112, 112) -> probabilities float32 (n, classes), or 1 of the class that is named."""
        self._queries += len(images)
        parts = [images[i : i + 32] for i in range(0, len(images), 32)]
        with torch.no_grad():
            found = torch.cat([self._network(to_float(part)).float() for part in parts])
        if self.access == "labels":
            return functional.one_hot(found.argmax(1), self.classes).float()
        return found.softmax(1)


@dataclass(frozen=True)
class WhiteBox:
    """What only the service itself has: its network, and the photos and people that it was trained on."""

    network: nn.Module  # Images -> logits, its weights frozen.
    embedding: nn.Module  # Images -> unit (n, d), the first part of the network.
    photos: ByteArray  # (n, 3, 112, 112)
    labels: IntArray  # (n,): the class of each.


@dataclass(frozen=True)
class Given:
    """What a row is given to make a hardened recognizer of.

    Attributes:
        service: to be queried.
        photos: further photos of the enrolled people, uint8 (n, 3, 112, 112), which the service was not trained on;
            who is on them the service must be asked.
        own: images of other people, the defender's.
        white_box: for a row whose ``access`` is ``white_box``, else None.
    """

    service: Service
    photos: ByteArray
    own: Faces
    white_box: WhiteBox | None = None


class RandomNetwork(nn.Module):
    """A network that draws something itself: it is given the generator beside the images."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """float32 (n, 3, side, side) -> logits (n, classes)."""
        logits: Tensor = super().__call__(images, generator)
        return logits


class HardenedClassifier:
    """A network that looks at the image averaged down to ``side`` pixels, under noise of its own.

    Averaging k x k pixels divides the l2 norm of a perturbation by k at least, its l1 norm by k^2 and its largest value
    by 1. So what is certified of the small image is certified of the whole one with radii that many times larger.

    Args:
        network: float32 (n, 3, side, side) -> logits (n, classes); gradients reach its input.
        noise: on each value of the small image.
        draws: of noise by which one decision is made; 1 where the network is deterministic.
    """

    def __init__(self, network: nn.Module, classes: int, noise: Noise, side: int = SIZE, draws: int = 1) -> None:
        if side < 1 or SIZE % side:
            raise UserError(f"expected a side that divides {SIZE}, got {side}", "Take 112, 56 or 28.")
        self.network = network.eval().requires_grad_(False)
        self.classes, self.noise, self.side, self.draws = classes, noise, side, draws

    def logits(self, images: Tensor, generator: Generator) -> Tensor:
        """float32 (n, 3, 112, 112) -> (n, classes) under one draw of noise an image; gradients reach the images."""
        return self._logits(self._small(images), generator)

    def probabilities(self, images: Tensor, draws: int, generator: Generator) -> Tensor:
        """The mean of the softmax over so many draws, (n, classes); gradients reach the images."""
        small = self._small(images)
        total = torch.zeros(())
        for part in _parts(draws, len(small)):
            repeated = small.repeat_interleave(part, dim=0)
            shares = self._logits(repeated, generator).float().softmax(1)
            total = total + shares.reshape(len(small), part, -1).sum(1)
        return total / draws

    @torch.no_grad()
    def votes(self, images: Tensor, draws: int, generator: Generator) -> IntArray:
        """How often each class is the most likely one, int64 (n, classes). Equal logits are no vote."""
        found = np.zeros((len(images), self.classes), dtype=np.int64)
        for row, image in enumerate(self._small(images)):
            for part in _parts(draws, 1):
                logits = self._logits(image.expand(part, -1, -1, -1), generator)
                best = logits.topk(2, dim=1)
                sure = best.values[:, 0] > best.values[:, 1]
                found[row] += np.bincount(best.indices[sure, 0].cpu().numpy(), minlength=self.classes)
        return found

    def decide(self, images: Tensor, generator: Generator) -> IntArray:
        """The most voted class of each, int64 (n,), without a test; ``ABSTAINS`` where nothing was voted for."""
        votes = self.votes(images, self.draws, generator)
        return np.where(votes.sum(1) > 0, votes.argmax(1), ABSTAINS)

    def decide_surely(self, images: Tensor, draws: int, generator: Generator, alpha: float = 0.001) -> IntArray:
        """As ``smoothing.significant``; the class itself where nothing is random."""
        if not self.random:
            return self.decide(images, generator)
        return significant(self.votes(images, draws, generator), alpha)

    @property
    def smoothed(self) -> bool:
        """Whether its noise has a certificate."""
        return self.noise.family != "none"

    @property
    def random(self) -> bool:
        """Whether two looks at one image may differ: by noise, or by what the network itself draws."""
        return self.smoothed or isinstance(self.network, RandomNetwork)

    def certify(
        self, images: Tensor, generator: Generator, *, first: int = 100, samples: int = 1000, alpha: float = 0.001
    ) -> Certificate:
        """See ``smoothing.certify``.

        Where nothing is random a decision stands at radius 0, of what was given and no more. Of a network that draws
        something itself nothing is proved, not even that.
        """
        if not self.smoothed:
            classes = self.decide(images, generator) if not self.random else np.full(len(images), ABSTAINS)
            none = np.zeros(len(images))
            return Certificate(classes, none, {norm: none for norm in NORMS})
        found = certify(
            lambda draws: self.votes(images, draws, generator), self.noise, 3 * self.side**2, first=first,
            samples=samples, alpha=alpha,
        )  # fmt: skip
        k = SIZE // self.side
        larger = {"l1": k**2, "l2": k, "linf": 1}
        return Certificate(found.classes, found.shares, {norm: r * larger[norm] for norm, r in found.radii.items()})

    def _small(self, images: Tensor) -> Tensor:
        k = SIZE // self.side
        return functional.avg_pool2d(images, k) if k > 1 else images

    def _logits(self, small: Tensor, generator: Generator) -> Tensor:
        if self.smoothed:
            small = small + self.noise.draw(tuple(small.shape), generator).to(small.device)
        if isinstance(self.network, RandomNetwork):
            return self.network(small, generator)
        logits: Tensor = self.network(small)
        return logits


def _parts(draws: int, images: int) -> Iterator[int]:
    """So many draws of so many images, in parts that a network is given at once."""
    most = max(1, _AT_ONCE // max(1, images))
    while draws > 0:
        yield min(draws, most)
        draws -= most


class Hardening(Method):
    """Makes a hardened recognizer of a service: a row of the robustness track.

    ``access`` says what of the service it is given: ``probabilities`` or ``labels`` of a black box, or all of it.
    """

    access: ClassVar[Access] = "probabilities"

    @classmethod
    def learns(cls) -> bool:
        """It is given the defender's people."""
        return True

    @abstractmethod
    def network(self, classes: int, white_box: WhiteBox | None) -> nn.Module:
        """What ``harden`` trains, before its training: its weights are kept, and loaded into this again."""

    @abstractmethod
    def harden(self, given: Given, generator: Generator) -> HardenedClassifier:
        """Learn. ``HardenedClassifier.network`` is of the architecture of ``network``; what was learnt along the way
        may be noted in ``self.log``.
        """

    log: dict[str, Any]

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.log = {}


def impersonated(labels: IntArray, classes: int) -> IntArray:
    """Whom the attacker of each image wants to be taken for: another person, in turn; int64 (n,)."""
    turns = np.arange(len(labels)) % (classes - 1)
    return np.asarray((labels + 1 + turns) % classes, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class RobustnessView:
    """What an attacker of a hardened recognizer sees: all of it, and its own photos.

    Attributes:
        hardened: network and noise; no draw of the noise by which it will be judged.
        images: clear photos that it may change, uint8 (n, 3, 112, 112); ``labels``: the class of each.
        certified: the radius within which no perturbation changes the decision, by norm, (n,) each; of images that
            are decided right, else 0.
        right: bool (n,): which are decided right as they are.
        candidates: photos of the enrolled people, uint8 (m, 3, 112, 112), some of which the service, or whoever has
            made the hardened recognizer, has learnt from; ``candidate_labels``: the class of each.
        embeddings: of the candidates by the public recognizer that the service is built on, float64 (m, d).
    """

    hardened: HardenedClassifier
    images: ByteArray
    labels: IntArray
    certified: Mapping[str, FloatArray]
    right: np.ndarray[Any, np.dtype[np.bool_]]
    candidates: ByteArray
    candidate_labels: IntArray
    embeddings: FloatArray
    queries: int = field(default=0)
    gallery_count: int = 0

    @property
    def target_count(self) -> int:
        """How many images are attacked."""
        return len(self.images)

    def floats(self) -> Tensor:
        """``images`` as float32 in [0, 1], on the current device."""
        return device.to(to_float(self.images))


def distance(changed: Tensor, images: Tensor) -> FloatArray:
    """The l2 norm of each change, float64 (n,), of images in [0, 1]."""
    return np.asarray((changed.double() - images.double()).flatten(1).norm(dim=1).cpu().numpy(), dtype=np.float64)


def certified_at(radius: float, classes: IntArray, radii: FloatArray, labels: IntArray) -> FloatArray:
    """Which images are decided right wherever a change of at most that norm leads, 0 or 1; an abstention is wrong."""
    return ((classes == labels) & (radii >= radius)).astype(np.float64) if math.isfinite(radius) else np.zeros(0)
