"""Attacks that were mounted elsewhere: their answers lie in the cache, under a digest of their content."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ppfr_bench.api import Attack, AttackerView, ByteArray, Config, Knowledge
from ppfr_bench.assets import cache_dir, make_cache_folder
from ppfr_bench.errors import Unavailable
from ppfr_bench.records.hashing import digest

_BATCH = 64


class Evaluation(Config):
    """What is said of an attack that was made elsewhere: the keys of ``evaluation.toml``.

    Attributes:
        title: what it is, in a few words; ``reference``: paper or project, with its year.
        knowledge: what its author knew, as in the threat model.
        shots: releases of each target that it made use of.
        artefact: where the answers can be fetched.
    """

    title: str = Field("", max_length=120)
    reference: str = Field("", max_length=300)
    knowledge: Knowledge = "aware"
    shots: int = Field(1, ge=1)
    artefact: str = Field("", max_length=300, pattern=r"^(https?://\S+)?$")


class MadeElsewhereConfig(Evaluation):
    """``answers``: the digest under which ``ppfr-bench run --answers FOLDER`` keeps them; the rest is said of them."""

    answers: str = Field("", pattern=r"^([0-9a-f]{64})?$")


class MadeElsewhere(Attack):
    """Hands on the answers where it is shown the releases that they answer, and elsewhere does what anybody can."""

    Config = MadeElsewhereConfig

    @property
    def knowledge(self) -> Knowledge:
        """What the author of the answers knew."""
        known: Knowledge = self.config.knowledge
        return known

    def run(self, view: AttackerView) -> npt.NDArray[Any]:
        """The answers, or ``without_answers``.

        Raises:
            Unavailable: they are not on this machine.
        """
        found = answers(self.config.answers)
        mine = same_releases(view.targets[0], found.targets)
        self.log["shots"] = self.config.shots if mine else 1
        return np.array(found.answer) if mine else self.without_answers(view)

    @abstractmethod
    def without_answers(self, view: AttackerView) -> npt.NDArray[Any]:
        """What anybody answers to the releases of another defense: the scorer asks for floor and ceiling."""


@dataclass(frozen=True)
class Answers:
    """What was answered, in the order of the data set; ``targets`` uint8 (n, ...): the first release of each."""

    targets: ByteArray
    answer: npt.NDArray[Any]


def keep(found: Answers) -> str:
    """Keep answers in the cache; the digest of their content, 64 hex digits."""
    content = hashlib.sha256()
    for array in (found.targets, found.answer):
        content.update(f"{array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    key = digest(["answers", content.hexdigest()])
    make_cache_folder("answers")
    for array, path in zip(
        (found.targets, found.answer), _paths(key), strict=True
    ):  # The answer last: then it is whole.
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npy")
        np.save(temporary, array, allow_pickle=False)
        temporary.replace(path)
    return key


def answers(key: str) -> Answers:
    """The answers behind a digest, memory-mapped.

    Raises:
        Unavailable: they are not on this machine.
    """
    targets, answer = _paths(key)
    if not answer.is_file():
        raise Unavailable(
            f"no answers {key[:12] or '(none named)'} on this machine",
            "Give their folder:  ppfr-bench run SUITE --defense DEFENSE --answers FOLDER",
        )
    return Answers(*(np.load(path, mmap_mode="r", allow_pickle=False) for path in (targets, answer)))


def same_releases(released: ByteArray, answered: ByteArray) -> bool:
    """Whether releases uint8 (n, ...) are those that were answered, up to what another machine rounds otherwise.

    They may differ by one grey level in the mean. Where the releases hardly differ among each other, as those of a
    defense that releases nearly black images, they may differ by a tenth of that.
    """
    if released.shape != answered.shape:
        return False
    apart = _difference(answered, np.roll(np.arange(len(answered)), 1), answered)
    return _difference(released, np.arange(len(released)), answered) <= min(1.0, apart / 10)


def _difference(one: ByteArray, rows: npt.NDArray[np.int64], other: ByteArray) -> float:
    """Mean absolute difference between rows of one and the other, in grey levels."""
    total = 0
    for start in range(0, len(other), _BATCH):
        part = slice(start, start + _BATCH)
        total += int(np.abs(one[rows[part]].astype(np.int16) - other[part]).sum(dtype=np.int64))
    return total / max(other.size, 1)


def _paths(key: str) -> tuple[Path, Path]:
    folder = cache_dir() / "answers"
    return folder / f"{key}.targets.npy", folder / f"{key}.npy"
