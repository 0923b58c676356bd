"""What a recognizer that is not built in goes by, and who brings it: a card's reader, or an adapter of a package."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.device import DeviceClass
from ppfr_bench.errors import Unavailable, UserError, did_you_mean
from ppfr_bench.places import from_environment, is_file, reason, user_path
from ppfr_bench.records.hashing import digest
from ppfr_bench.text import printable


@dataclass(frozen=True)
class Adapter:
    """A package whose models can be named as ``package:model``; ``_<package>.resolve(model)`` brings one."""

    modules: tuple[str, ...]  # All of them must be there to import.
    extra: str
    models: str  # These names may stand after the colon.
    differentiable: bool = False

    @property
    def lacking(self) -> list[str]:
        """Modules that are not installed; none of them is imported."""
        return [module for module in self.modules if find_spec(module) is None]


ADAPTERS = {
    "deepface": Adapter(("deepface", "cv2"), "deepface", "VGG-Face, Facenet512, ArcFace, Dlib, ..."),
    "frbench": Adapter(("frbench",), "frbench", "BACKBONE_LOSS_DATASET, e.g. irse-50_arcface_ms1m", True),
    "insightface": Adapter(("insightface",), "insightface", "a pack (buffalo_l), or a path to its folder or .onnx"),
}


@dataclass(frozen=True)
class ExternalRecognizer:
    """A recognizer that was brought along.

    Attributes:
        label: what tables show.
        identity: all that decides its embeddings and nothing else: hashes and preprocessing, never a path.
        load: makes it ready to embed.
    """

    label: str
    card: RecognizerCard
    identity: dict[str, Any]
    load: Callable[[], Recognizer]
    version: int = 1

    @property
    def name(self) -> str:
        """The label and 128 bits of the identity's hash: what embeddings and records are kept under."""
        return f"{self.label}_{digest(self.identity)[:32]}"

    @property
    def provenance(self) -> dict[str, Any]:
        """For a record: what the hash in the name stands for, and what is said of it."""
        said = self.card.model_dump(mode="json", include={"title", "reference", "licence", "training_data"})
        return said | {"dimension": self.card.dimension, "metric": self.card.metric, "identity": self.identity}


class ExternalModel(Recognizer):
    """A recognizer whose card comes from outside.

    Attributes:
        computes_on: the class of the device that computes, for the key of its embeddings; None is the current one.
    """

    version = 1
    computes_on: DeviceClass | None = None

    def __init__(self, card: RecognizerCard) -> None:
        self.card = card  # type: ignore[misc]  # The card is this one's, not its class's.


def is_external(source: str) -> bool:
    """Whether a name is that of a card or of another package's model."""
    return source.endswith(".toml") or ":" in source


def resolve(source: str) -> ExternalRecognizer:
    """The recognizer of a card or of another package.

    Raises:
        UserError: no such card, a card that is wrong, a package without an adapter.
        Unavailable: the package or its weights cannot be had on this machine.
    """
    if source.endswith(".toml"):
        from ppfr_bench.recognizers._card import resolve_card

        return resolve_card(user_path(source, "the recognizer card"))
    package, _, model = source.partition(":")
    if package not in ADAPTERS:
        raise UserError(f"no adapter for '{package}', as in '{source}'", did_you_mean(package, ADAPTERS))
    adapter = ADAPTERS[package]
    if adapter.lacking:
        raise Unavailable(
            f"{source} needs {', '.join(adapter.lacking)}, not installed here",
            f"pip install 'ppfr-bench[{adapter.extra}]'",
        )
    found: ExternalRecognizer = import_module(f"ppfr_bench.recognizers._{package}").resolve(model)
    return found


def folder_of(variable: str, name: str) -> Path:
    """Where another package keeps its weights: what its variable says, else ``name`` in this project's cache.

    The variable is set to it, as such packages know neither ``~`` in it nor an empty one.

    Raises:
        UserError: no home folder to put it in.
    """
    from ppfr_bench.assets import cache_dir

    folder = from_environment(variable) or cache_dir() / name
    os.environ[variable] = str(folder)
    return folder


def label_of(*parts: str) -> str:
    """A label from names of any kind: lower-case letters, digits and _."""
    return re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, 64 hex digits.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.exists() and not is_file(path):  # Reading a pipe or a device may take for ever.
            raise UserError(f"{printable(path)} is no file, expected one with weights", "Check the path.")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {printable(path)}: {reason(error)}", "Check the path.") from error
