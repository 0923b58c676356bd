"""The nouns a contributor needs: cards, Config, Faces, FaceDataset, Method, Defense, Attack, Recognizer, AttackerView.

Conventions, said once: an image tensor is float32 RGB in [0, 1], shape (n, 3, h, w), aligned 112x112 unless a
card says otherwise. Stored and released images are uint8 of the same shape: what an attacker gets is an 8-bit image.
All randomness comes from the ``torch.Generator`` that is passed in.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import device
from ppfr_bench.answers import Answers, Arrays
from ppfr_bench.cards import (
    AttackCard,
    Card,
    Config,
    DatasetCard,
    DefenseCard,
    Guarantee,
    Knowledge,
    Randomness,
    RecognizerCard,
    TrainingLog,
)
from ppfr_bench.errors import Unavailable, UserError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Generator, Tensor, nn

__all__ = [
    "SIZE", "Answers", "Arrays", "Attack", "AttackCard", "AttackerView", "Card", "Config", "DatasetCard", "Defense",
    "DefenseCard", "Differentiable", "FaceDataset", "Faces", "Guarantee", "KeyAccess", "Knowledge", "Material",
    "Method", "Oracle", "Pairs", "Randomness", "Recognizer", "RecognizerCard", "Scope", "TrainingLog", "Unavailable",
    "UserError", "clear_view", "materialised", "per_image_generators", "to_bytes", "to_float",
]  # fmt: skip

SIZE = 112
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]
KeyAccess = Literal["same", "other", "held"]


def to_float(images: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 (n, 3, h, w) in 0..255 -> float32 in [0, 1], on the current device."""
    levels = torch.as_tensor(np.array(images) if isinstance(images, np.ndarray) else images)
    return device.to(levels).to(torch.float32) / 255


def to_bytes(images: Tensor) -> ByteArray:
    """float32 (n, 3, h, w) in [0, 1], on any device -> uint8 in 0..255, rounded to nearest: what is really released."""
    array: ByteArray = (images * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return array


def per_image_generators(generator: Generator, n: int) -> list[Generator]:
    """One independent generator an image, so that what an image receives does not depend on its batch.

    All are of the CPU, so that they draw the same bits on every device; ``device.draw`` moves what they draw. Seeds are
    drawn one after the other: n images in one call, or in several, get the same generators.
    """
    seeds = [int(torch.randint(0, 2**63 - 1, (1,), generator=generator)) for _ in range(n)]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Faces(ABC):
    """A sequence of aligned face images with identities, decoded when asked for.

    ``identities`` is int64 (n,); ``names`` holds one label an image for messages (never a path outside the data set).
    """

    identities: IntArray
    names: Sequence[str]

    @abstractmethod
    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        """Images uint8 (len(indices), 3, 112, 112), in the order asked for."""

    def __len__(self) -> int:
        return len(self.identities)

    def batches(self, size: int) -> Iterator[ByteArray]:
        """All images in order, at most ``size`` at a time, the last batch included."""
        for start in range(0, len(self), size):
            yield self.load(range(start, min(start + size, len(self))))


@dataclass(frozen=True)
class Pairs:
    """Verification pairs over one ``Faces``: indices (m,), ``same`` bool (m,), ``fold`` int (m,), identity-disjoint."""

    left: IntArray
    right: IntArray
    same: npt.NDArray[np.bool_]
    fold: IntArray

    def __len__(self) -> int:
        return len(self.same)


class FaceDataset(ABC):
    """Three splits of disjoint identities, and what is measured on the last of them.

    ``defender`` may be trained on by the defense, ``attacker`` by the attack; ``evaluation`` by nobody.
    ``pairs`` index into ``evaluation``; ``gallery`` and ``targets`` too (one clear photo an identity; other
    photos of the same people, which the attacker sees protected only). ``canary`` is the standard clear-clear protocol.
    """

    card: ClassVar[DatasetCard]
    version: ClassVar[int]
    Config: ClassVar[type[Config]]

    name: str
    revision: str  # It changes whenever any image, identity or pair does.
    defender: Faces
    attacker: Faces
    evaluation: Faces
    pairs: Pairs
    gallery: IntArray
    targets: IntArray
    canary: tuple[Faces, Pairs]
    poses: tuple[str, ...] | None = None  # Of each image of ``evaluation``, such as ``profile``, where it is known.


class Method(ABC):
    """A method of protection: a row of the leaderboard. Each track ranks those that derive from one class.

    ``Defense`` is the class of images and representations; other tracks have theirs beside what they share, such as
    ``ppfr_bench.template.api.TemplateProtection``.

    Args of the constructor: a ``Config`` of the class, its defaults if none is given.
    """

    version: ClassVar[int]
    card: ClassVar[DefenseCard]
    Config: ClassVar[type[Config]] = Config

    def __init__(self, config: BaseModel | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    @property
    def randomness(self) -> Randomness:
        """The randomness contract under the present parameters; the harness checks it."""
        return self.card.randomness

    @property
    def guarantee(self) -> Guarantee | None:
        """What is proven under the present parameters, for one colour image released once. Default: nothing."""
        return None

    @classmethod
    def learns(cls) -> bool:
        """Whether it is trained on the defender's people. Default: no."""
        return False


class Defense(Method):
    """Protects face images: ``protect`` is all that is required; ``fit`` only if it learns.

    A key that all images share is an int of its ``Config`` named ``secret``, so that an attacker can be given another.
    A class that reads recognizers, or was trained with some, has a property ``seen``, a tuple of their names: they have
    no part in its retention.
    """

    @classmethod
    def learns(cls) -> bool:
        """Whether it has a ``fit`` of its own."""
        return cls.fit is not Defense.fit

    def fit(self, faces: Faces, generator: Generator) -> None:
        """Learn from the defender's training identities (and nothing else). Default: nothing to learn."""

    @abstractmethod
    def protect(self, images: Tensor, generator: Generator) -> Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same shape and range, all randomness from ``generator``.

        A representation has channels and places of its own instead, (n, c, h', w'), the same for images of one size.
        """

    def render(self, released: Tensor) -> Tensor:
        """The image, float32 (n, 3, h, w) in [0, 1], that whoever knows the method makes of a representation.

        It may be larger at the right and the bottom, where the image filled no whole place. A black-box recognizer is
        given it, and a person sees it. Only a defense that releases a representation defines it; default: what was
        released is an image.
        """
        return released

    def picture(self, released: Tensor) -> Tensor:
        """For callers of version 0.1: ``render``."""
        return self.render(released)

    @classmethod
    def releases_image(cls) -> bool:
        """Whether what ``protect`` releases is an image; one that has a ``render`` of its own releases channels."""
        return cls.render is Defense.render

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "picture" in vars(cls) and "render" not in vars(cls):  # Version 0.1 called ``render`` so.
            cls.render = vars(cls)["picture"]  # type: ignore[method-assign]


class Recognizer(ABC):
    """A face recognizer as a black box: images in, embeddings out, no gradient."""

    version: ClassVar[int]
    card: ClassVar[RecognizerCard]
    runtime: ClassVar[tuple[str, str] | None] = None  # It needs this module, which this extra brings.

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> float32 (n, d); unit length where the metric is cosine."""

    def similarity(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Row by row, (m, d) and (m, d) -> (m,): cosine, or minus the Euclidean distance; larger is more alike."""
        if self.card.metric == "cosine":
            return np.asarray((left * right).sum(axis=1), dtype=np.float64)
        return np.asarray(-np.linalg.norm(left - right, axis=1), dtype=np.float64)

    def similarity_matrix(self, probes: FloatArray, gallery: FloatArray) -> FloatArray:
        """All against all, (p, d) and (g, d) -> (p, g)."""
        if self.card.metric == "cosine":
            return np.asarray(probes @ gallery.T, dtype=np.float64)
        squared = (probes**2).sum(1)[:, None] + (gallery**2).sum(1)[None, :] - 2 * probes @ gallery.T
        return np.asarray(-np.sqrt(np.maximum(squared, 0)), dtype=np.float64)


@runtime_checkable
class Differentiable(Protocol):
    """A recognizer that can be had with gradients: it may be a suite's surrogate."""

    def differentiable(self) -> nn.Module:
        """float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, d), its weights frozen."""
        ...


class Oracle(Protocol):
    """The live defense as a service: protects images of the attacker's choosing, with fresh randomness, and counts."""

    @property
    def queries(self) -> int: ...

    def protect(self, images: ByteArray) -> ByteArray:
        """uint8 (n, 3, 112, 112) -> uint8 of the same shape."""
        ...


class Embedder(Protocol):
    """A recognizer in the attacker's hands, its embeddings cached by image content."""

    name: str

    def embed(self, images: ByteArray) -> FloatArray:
        """uint8 (n, 3, 112, 112) -> (n, d)."""
        ...

    def similarity_matrix(self, probes: FloatArray, gallery: FloatArray) -> FloatArray: ...


@dataclass(frozen=True)
class Scope:
    """What is known of an attacker's view before it exists.

    Attributes:
        shots: releases of each target that the attacker holds.
        releases_image: whether what is released is an image.
    """

    shots: int
    releases_image: bool = True


@dataclass(frozen=True, eq=False)
class Material:
    """What an attack starts from, computed once for all attacks on one defense that declare the same.

    Attributes:
        name: of the kind of material, such as ``unet``.
        spec: JSON values that, with the attacker's view, determine it; a ``version`` among them.
        compute: (view, generator) -> arrays. It may depend on the view, the spec, the generator and on the materials
            in ``starts_from``, which are in the view, and on nothing else.
        starts_from: what must be computed first.
        queries: whether ``compute`` sends images through the oracle, which it is given only then. The oracle draws for
            one attack: such a material belongs to the first attack of the suite that declares it.
        needs_surrogate: whether ``compute`` learns from the suite's surrogate, which it is given only then.
        of_clear_images: whether ``compute`` reads nothing of the view but ``auxiliary``, ``surrogate``, ``scope`` and
            materials of which the same holds. It is given ``clear_view`` then, no oracle, and is computed once for all
            defenses.

    Raises:
        UserError: it is of clear images, and something in ``starts_from`` is not.
    """

    name: str
    spec: Mapping[str, Any]
    compute: Callable[[AttackerView, Generator], Arrays]
    starts_from: tuple[Material, ...] = ()
    queries: bool = True
    needs_surrogate: bool = False
    of_clear_images: bool = False

    def __post_init__(self) -> None:
        if self.of_clear_images and not all(earlier.of_clear_images for earlier in self.starts_from):
            raise UserError(
                f"material '{self.name}' is of clear images and starts from one that is not",
                "Declare that one of_clear_images too, or leave it out of both.",
            )

    @property
    def key(self) -> str:
        """Its place in ``AttackerView.materials``."""
        return f"{self.name} {json.dumps(self.spec, sort_keys=True)}"


class LoneWorkbench:
    """Computes whatever it is asked for; where attacks of version 0.1 asked for what they start from."""

    def share(self, name: str, spec: Mapping[str, Any], compute: Callable[[Generator], Arrays]) -> Arrays:
        """``compute``'s arrays."""
        return compute(torch.Generator().manual_seed(0))


Workbench = LoneWorkbench  # This is its name in version 0.1.


@dataclass(frozen=True)
class AttackerView:
    """Everything an attacker sees, and nothing else: no field can hold a target's original.

    Attributes:
        auxiliary: the attacker's own clear images and identities, disjoint from the evaluation identities.
        auxiliary_protected: the same images once through the oracle, uint8 (n, 3, 112, 112), memory-mapped;
            None for an ``oblivious`` attacker.
        oracle: the live defense; None for an ``oblivious`` attacker.
        targets: the protected targets, uint8 (shots, n, 3, 112, 112), as released: a representation is no image.
        gallery: clear photos of the target identities (other photos than the targets), where the attack needs them.
        recognizer: an off-the-shelf recognizer, where the attack needs one.
        defense: the defense itself, for an ``informed`` attacker; under another key than the targets', unless
            ``Attack.key_access`` says that it holds theirs.
        reconstructions: earlier attacks' output on the targets, uint8 (n, 3, 112, 112), by attack label.
        source_answers: all that those attacks answered, by label: also by measure and after parts of their budget.
        protected_gallery: the people of ``gallery``, other photos than the targets, as the defense releases them.
        surrogate: a recognizer with gradients, float32 (n, 3, 112, 112) in [0, 1] -> unit (n, d).
        materials: what the attack has declared that it starts from, by ``Material.key``; read by ``material``.
        render: makes the image that a person or a recognizer is shown of what was released, uint8 to uint8.
        releases_image: False where channels are released, uint8 (n, c, h, w), and no image.
        photographs_of: the name of the data set, where its images are photographs of real people; "" elsewhere.
    """

    knowledge: Knowledge
    auxiliary: Faces
    targets: ByteArray
    auxiliary_protected: ByteArray | None = None
    oracle: Oracle | None = None
    gallery: ByteArray | None = None
    recognizer: Embedder | None = None
    defense: Defense | None = None
    reconstructions: dict[str, ByteArray] | None = None
    source_answers: Mapping[str, Answers] = field(default_factory=dict)
    protected_gallery: ByteArray | None = None
    surrogate: nn.Module | None = None
    materials: Mapping[str, Arrays] = field(default_factory=dict)
    render: Callable[[ByteArray], ByteArray] = np.asarray
    releases_image: bool = True
    photographs_of: str = ""

    @property
    def scope(self) -> Scope:
        """What an attack's ``starts_from`` is told."""
        return Scope(len(self.targets), self.releases_image)

    def material(self, material: Material) -> Arrays:
        """The arrays of a declared material.

        Raises:
            UserError: the attack did not declare it.
        """
        if material.key not in self.materials:
            raise UserError(
                f"the attack starts from '{material.name}' and does not declare it",
                "Return it from Attack.starts_from; see the api.",
            )
        return self.materials[material.key]

    @property
    def workbench(self) -> LoneWorkbench:
        """For attacks of version 0.1; see ``Attack.starts_from``."""
        return LoneWorkbench()

    @property
    def picture(self) -> Callable[[ByteArray], ByteArray]:
        """For attacks of version 0.1: ``render``."""
        return self.render

    @property
    def representation(self) -> bool:
        """For attacks of version 0.1: not ``releases_image``."""
        return not self.releases_image


def clear_view(auxiliary: Faces, scope: Scope, surrogate: nn.Module | None = None) -> AttackerView:
    """What an attacker knows before anything is protected: its own clear images and, where needed, the surrogate."""
    no_targets = np.empty((scope.shots, 0, 3, SIZE, SIZE), np.uint8)
    return AttackerView("aware", auxiliary, no_targets, surrogate=surrogate, releases_image=scope.releases_image)


class Attack(ABC):
    """Mounted by one attacker against one defense: ``fit`` on the attacker's own material, then ``run`` on the targets.

    An *appearance* attack returns reconstructions uint8 (n_targets, 3, 112, 112); an *identity*
    or *unlinkability* attack returns similarities float64 (n_targets, n_gallery), larger is more alike; an *attributes*
    attack the values of ``ppfr_bench.metrics.attributes``, float64 (n_targets, n_attributes). The scorer alone holds
    originals and names.
    """

    version: ClassVar[int]
    card: ClassVar[AttackCard]
    Config: ClassVar[type[Config]] = Config

    def __init__(self, config: BaseModel | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()
        self.log: dict[str, Any] = {}  # The record holds it: the keys of ``TrainingLog`` as such, others as notes.

    @property
    def shots(self) -> int:
        """Independently protected versions of each target that it wants; it is given fewer where all are alike."""
        return 1

    @property
    def knowledge(self) -> Knowledge:
        """What whoever mounts it knows, for the record; its view is by the card."""
        return self.card.knowledge

    @property
    def key_access(self) -> KeyAccess:
        """What it has of the key of a defense with a ``secret``.

        Its own images are protected under the targets' key, which it does not know (``same``), or under another, which
        it knows (``other``). Or it holds the targets' key itself (``held``), as whoever is to undo the defense does.
        """
        return "same"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "key" in vars(cls) and "key_access" not in vars(cls):  # Version 0.1 called it so.
            cls.key_access = vars(cls)["key"]  # type: ignore[method-assign]

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """What ``fit`` and ``run`` read from the view's materials. Default: nothing."""
        return ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Labels of the attacks whose reconstructions this one starts from."""
        return ()

    def decided_by(self, scope: Scope) -> Any:
        """What its answers in a scope depend on beside the view, as JSON values. Default: all its parameters.

        Attacks of one plug-in for which it is equal answer the same: the first of them in the suite runs for all.
        """
        return self.config.model_dump(mode="json")

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Learn from the attacker's own images. Default: nothing to learn."""

    @abstractmethod
    def run(self, view: AttackerView) -> npt.NDArray[Any] | Answers:
        """The attacker's answer on the targets; ``Answers``, if it has others by measure or by budget."""


def materialised(attack: Attack, view: AttackerView, seed: int = 0) -> AttackerView:
    """The view with all materials that the attack declares, computed here: for an attack run on its own."""
    found: dict[str, Arrays] = {}

    def compute(material: Material) -> None:
        for earlier in material.starts_from:
            compute(earlier)
        if material.key not in found:
            seen = clear_view(view.auxiliary, view.scope, view.surrogate) if material.of_clear_images else view
            found[material.key] = material.compute(replace(seen, materials=found), torch.Generator().manual_seed(seed))

    for material in attack.starts_from(view.scope):
        compute(material)
    return replace(view, materials=found)
