"""What the stages of one plan share in one process: the data set, fitted defenses, recognizers, randomness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ppfr_bench import device, registry
from ppfr_bench.api import ByteArray, Defense, Differentiable, FaceDataset, Faces, Recognizer, Unavailable
from ppfr_bench.assets import cache_dir
from ppfr_bench.datasets.faces import subset
from ppfr_bench.datasets.opening import open_dataset
from ppfr_bench.errors import UserError
from ppfr_bench.parallel import keep_freed_memory
from ppfr_bench.recognizers import load_recognizer, recognizer_component
from ppfr_bench.recognizers.store import FILE as EMBEDDINGS
from ppfr_bench.recognizers.store import CachedEmbedder, EmbeddingStore
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.record import Component
from ppfr_bench.sandbox.layers import Limits as SandboxLimits
from ppfr_bench.sandbox.stand_in import set_limits
from ppfr_bench.stages.release import draws_for, render
from ppfr_bench.suites import DatasetEntry, Protocol
from ppfr_bench.wrapping import PickledDataset, WrappedDefense

Split = Literal["evaluation", "attacker", "targets", "gallery"]
FRESH = ("per_call", "per_image_key")  # Two releases of one photo differ under these contracts.


@dataclass(frozen=True)
class Setting:
    """What a worker is told of a plan: all that its stages share, and nothing of its cells.

    Attributes:
        surrogate: name of the recognizer that attacks and learned defenses may train on; empty if none.
        plugins, external, wrapped: files of plug-ins, recognizers of other packages and files, and defenses without a
            file, to be made known to the process.
        pickled: a data set that no name and parameters open.
        here: whether defenses that are given by file run in the process of a worker; else each has one of its own.
        trusted: whether the code of any file runs in the process of a worker, where it could change every number.
        device: ``cpu``, ``cuda`` or ``mps``, or one of several such as ``cuda:1``.
    """

    seed: int
    surrogate: str
    protocol: Protocol
    dataset: Component
    dataset_params: Mapping[str, Any]
    dataset_revision: str
    drop_duplicates: bool = False
    device: str = "cpu"
    plugins: tuple[Path, ...] = ()
    external: tuple[str, ...] = ()
    wrapped: tuple[WrappedDefense, ...] = ()
    pickled: PickledDataset | None = None
    here: bool = False
    trusted: bool = False

    def prepare(self) -> None:
        """Make this process ready: memory, threads, the device, plug-ins.

        Raises:
            UserError: a plug-in or a device is not to be had here.
        """
        keep_freed_memory()
        torch.set_num_threads(self.protocol.threads)
        device.select(self.device)
        registry.run_here(self.here)
        set_limits(self.limits)
        for path in self.plugins:
            registry.add_plugin(path)
        for source in self.external:
            recognizer_component(source)
        for defense in self.wrapped:
            defense.adopt()

    @property
    def limits(self) -> SandboxLimits:
        """What a defense that is given by file may take."""
        seconds, usual = self.protocol.timeout, SandboxLimits()
        memory = usual.memory_mib if self.protocol.memory is None else self.protocol.memory * 1024
        call = min(usual.call_seconds, seconds)
        return SandboxLimits(call_seconds=call, fit_seconds=seconds, memory_mib=memory)

    def open_dataset(self) -> FaceDataset:
        """The data set again, in any process."""
        entry = DatasetEntry(
            name=self.dataset.name, params=dict(self.dataset_params), drop_duplicates=self.drop_duplicates
        )
        return open_dataset(entry, self.pickled.unpack() if self.pickled else None)


class Context:
    """The surroundings of the stages of one plan, in one process."""

    def __init__(self, setting: Setting, dataset: FaceDataset | None = None) -> None:
        self.setting = setting
        self.dataset = setting.open_dataset() if dataset is None else dataset
        if self.dataset.revision != setting.dataset_revision:
            raise UserError(
                f"the data set {self.dataset.name} is of revision {self.dataset.revision} here, expected "
                f"{setting.dataset_revision}, of which the plan was made",
                "A file of it has changed, or this machine has others. Restore them, or type the same again.",
            )
        self._defenses: dict[str, Defense] = {}

    @property
    def batch(self) -> int:
        """Images in memory at a time."""
        return self.setting.protocol.batch

    def seed(self, *purpose: Any) -> int:
        """A number below 2**60 that depends on the suite's seed and the purpose, and on nothing else."""
        return int(digest([self.setting.seed, *purpose])[:15], 16)

    def generator(self, *purpose: Any) -> torch.Generator:
        """A generator with that seed; always on the CPU."""
        return torch.Generator().manual_seed(self.seed(*purpose))

    def draws_for(self, images: ByteArray, draw: int) -> torch.Generator:
        """What a defense draws from for one batch; see ``release.draws_for``."""
        return draws_for(images, self.setting.seed, draw)

    def defense(self, spec: Mapping[str, Any], secret: int | None = None) -> Defense:
        """The defense of a spec, fitted on the defender's people if it learns; kept for the life of the process.

        Args:
            spec: of the defense.
            secret: a key in place of its own; it learns from the same draws.
        """
        key = digest([spec, secret])
        if key not in self._defenses:
            config = spec["config"] if secret is None else spec["config"] | {"secret": secret}
            defense: Defense = registry.build("defense", spec["name"], config)
            if type(defense).learns():
                defense.fit(self.dataset.defender, self.generator("fit", spec))
            self._defenses[key] = defense
        return self._defenses[key]

    def code_of(self, spec: Mapping[str, Any]) -> Defense:
        """Code and weights of a defense without its key: the same under another key, which is used nowhere else.

        It is the defense itself where its parameters hold no ``secret``. So it is where it learns and by its contract
        draws anew for every release: no key has a part in that, and it would have to learn again.
        """
        defense, secret = self.defense(spec), spec["config"].get("secret")
        if not isinstance(secret, int) or (type(defense).learns() and defense.randomness in FRESH):
            return defense
        return self.defense(spec, secret + 1)

    def render(self, spec: Mapping[str, Any]) -> Callable[[ByteArray], ByteArray]:
        """What makes an image of a release, uint8 (n, 3, 112, 112)."""
        defense = self.defense(spec)
        if type(defense).releases_image():
            return np.asarray

        def rendered(released: ByteArray) -> ByteArray:
            shape = self.dataset.evaluation.load([0]).shape
            return np.concatenate([render(defense, part, shape) for part in chunks(released, self.batch)])

        return rendered

    def faces(self, split: Split) -> Faces:
        """The clear images of a split."""
        if split in ("targets", "gallery"):
            chosen = self.dataset.targets if split == "targets" else self.dataset.gallery
            return subset(self.dataset.evaluation, chosen)
        return self.dataset.evaluation if split == "evaluation" else self.dataset.attacker

    def recognizer(self, name: str) -> Recognizer:
        """A recognizer, ready to embed; one instance a process."""
        return load_recognizer(name)

    def embedder(self, name: str) -> CachedEmbedder:
        """A recognizer whose embeddings are kept by image."""
        return CachedEmbedder(name, load_recognizer(name), self._embeddings)

    @cached_property
    def _embeddings(self) -> EmbeddingStore:
        return EmbeddingStore(cache_dir() / EMBEDDINGS)

    @cached_property
    def surrogate(self) -> nn.Module:
        """The suite's surrogate recognizer with gradients, its weights frozen.

        Raises:
            Unavailable: the suite names none, or it has none to give.
        """
        name = self.setting.surrogate
        recognizer = load_recognizer(name) if name else None
        if not isinstance(recognizer, Differentiable):
            raise Unavailable(f"no recognizer with gradients: surrogate is {name or 'not set'}",
                              'Name one in the suite:  surrogate = "faceplugin"')  # fmt: skip
        return recognizer.differentiable()


def chunks(array: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    """Consecutive slices of at most ``size`` rows, the last included."""
    for start in range(0, len(array), size):
        yield np.asarray(array[start : start + size])
