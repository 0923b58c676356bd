"""The record of a cell: its frozen schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, Strict, field_validator, model_serializer, model_validator
from pydantic.dataclasses import dataclass

from ppfr_bench.cards import Config, Guarantee, Knowledge, Real, TrainingLog, Whole
from ppfr_bench.former_names import FORMER_NAMES, first_name
from ppfr_bench.records.estimate import STRICT, Estimate, Measurement, Part

SCHEMA_VERSION = 2
TRUSTED = "trusted"  # The flag of a record that code of a file could change, as it ran in the harness's own process.
LABEL = re.compile(r"[a-z0-9_]+")
Status = Literal["ok", "failed", "skipped"]
CellKind = Literal["canary", "utility", "attack"]
Slot = tuple[str, str, str]  # Kind of the cell, label of the attack, label of the recognizer.


class Component(Config):
    """One plug-in with its parameters, under the label that a suite gave it."""

    label: str
    name: str
    version: int
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("label", "name")
    @classmethod
    def _is_label(cls, value: str) -> str:
        if not LABEL.fullmatch(value):
            raise ValueError(f"expected lower-case letters, digits and _, got {value!r}")
        return value

    @property
    def spec(self) -> dict[str, Any]:
        """What determines its output: all but its label. It is under the first name that the plug-in had."""
        return {"name": first_name(self.name), "version": self.version, "config": dict(self.config)}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Cost:
    """What the cell's stages took when they were first computed (cached stages report what they once took).

    ``shared`` of the seconds are of stages that an earlier cell of the row needs too: without them, cells add up.
    """

    seconds: Annotated[Real, Field(ge=0)] = 0.0
    shared: Annotated[Real, Field(ge=0)] = 0.0
    protect_images_per_second: Annotated[Real, Field(ge=0)] | None = None
    peak_memory_mib: Annotated[Real, Field(ge=0)] | None = None
    attack_training_images: Annotated[Whole, Field(ge=0)] = 0
    oracle_queries: Annotated[Whole, Field(ge=0)] = 0

    @property
    def own(self) -> float:
        """Seconds that no earlier cell of the row has taken."""
        return self.seconds - self.shared


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Environment:
    """Where the record was made; of it only the class of the device is part of a key.

    ``sandbox``: what closed in the process of a defense that is given by file; empty of one that ran in the harness's.
    """

    ppfr_bench: str
    commit: str | None
    dirty: Annotated[bool, Strict()] | None
    python: str
    torch: str
    platform: str
    processor: str
    device: str
    threads: Annotated[Whole, Field(ge=1)]
    sandbox: str = ""

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A record that has no such process looks as it did before there were any."""
        found: dict[str, Any] = serialized(self)
        return {name: value for name, value in found.items() if name != "sandbox" or value}


class Record(Config):
    """The result of one cell.

    Attributes:
        cell: ``canary`` (clear against clear), ``utility`` (one recognizer on what is released) or ``attack``.
        track: of the defense, which follows from what it releases.
        surrogate: whether the recognizer is the one that learned defenses and attacks may train on.
        adapted: whether the recognizer was fine-tuned on what the defense releases.
        scorer: what scored an attack's answer; ``sets``: the privacy that it sets, if any.
        metrics: by name; ``log``: what else was noted; ``training``: what an attack reports of its training.
        former_key: that version 0.1 gave it: the spread between seeds is drawn from it, and stays as it was.
        samples: sha256 of the strip of sample faces, JPEG, where there is one (synthetic faces only).
    """

    schema_version: Literal[2] = 2
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    suite: str
    dataset: Component
    dataset_revision: str
    real_people: bool
    cell: CellKind
    track: str = ""
    defense: Component
    attack: Component | None = None
    recognizer: Component | None = None
    surrogate: bool = False
    adapted: bool = False
    scorer: str = ""
    sets: str = ""
    builds_on: tuple[str, ...] = ()  # This attack should never fall behind those.
    knowledge: Knowledge | None = None
    seed: int = Field(ge=0, lt=1 << 63)
    status: Status
    reason: str = ""
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    log: dict[str, Any] = Field(default_factory=dict)
    training: TrainingLog | None = None
    defense_card: dict[str, Any] = Field(default_factory=dict)
    guarantee: Guarantee | None = None
    former_key: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    samples: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    environment: Environment
    cost: Cost = Cost()

    @field_validator("defense")
    @classmethod
    def _defense_by_its_name_of_today(cls, found: Component) -> Component:
        name = FORMER_NAMES.get(("defense", found.name))
        if name is None:
            return found
        return found.model_copy(update={"name": name, "label": name if found.label == found.name else found.label})

    @model_validator(mode="after")
    def _is_explained(self) -> Record:
        if self.status != "ok" and not self.reason:
            raise ValueError("a failed or skipped cell needs a reason")
        if self.cell == "attack" and self.attack is None:
            raise ValueError("an attack cell names its attack")
        return self

    @property
    def slot(self) -> Slot:
        """What it measures, on whichever defense and under whichever seed."""
        return (
            self.cell,
            self.attack.label if self.attack else "",
            self.recognizer.label if self.recognizer else "",
        )

    @property
    def title(self) -> str:
        """``pixelate / linkage / dlib_resnet``, for messages."""
        kind, attack, recognizer = self.slot
        return " / ".join(part for part in (self.defense.label, attack or kind, recognizer) if part)

    def estimate(self, name: str, part: Part = "value") -> Estimate:
        """A number of the record, with its key; without a value and with the reason where there is none."""
        measured = self.metrics.get(name)
        found = getattr(measured, part) if measured is not None else None
        if found is None:
            reason = self.reason if self.status != "ok" else f"the record has no {name}"
            return Estimate(None, reason=reason, key=self.key)
        return Estimate(found.value, found.interval, found.n, found.reason, found.draws, self.key)
