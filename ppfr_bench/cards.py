"""Cards: what is known of a component and where it comes from; and ``Config``, which parameters derive from.

Apart from ``api``, which has them all, so that what only reads records and writes pages does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, Strict, field_validator

Randomness = Literal["deterministic", "per_call", "per_image_key", "per_user_key", "per_session_key"]
Knowledge = Literal["oblivious", "aware", "informed"]
LONGEST_PLAIN = 300  # Characters of ``Card.plain``.
WEAK = 0.97  # The accuracy on clear pairs of LFW, below which a recognizer is too weak to judge a defense.


Whole = Annotated[int, Strict()]  # No text and no switch is taken for a number, as pydantic otherwise does.
Real = Annotated[float, Strict()]


def _strict(schema: Any) -> Any:
    """A schema of pydantic whose numbers and switches take nothing else for one, at any depth."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_strict, schema))
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key not in ("metadata", "cls")}
    kept = {key: value for key, value in schema.items() if key in ("metadata", "cls")}
    return made | kept | ({"strict": True} if schema.get("type") in ("int", "float", "bool") else {})


class Config(BaseModel):
    """Parameters of a plug-in, checked before anything runs: unknown keys are errors, values cannot change.

    A number is a number, and a switch a switch: ``"1"`` and ``true`` are not taken for 1, as pydantic otherwise does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """The schema that pydantic makes of the class, strict in numbers and switches."""
        return _strict(handler(source))


class Card(Config):
    """What is known of a component, and where it comes from.

    ``plain`` says in one or two sentences what the component does, for people outside the field: one line of text, at
    most 300 characters. It is read from the card whenever it is shown. No record, no key and no hash holds it, so that
    better words make no record stale.
    """

    title: str
    plain: str = Field("", max_length=LONGEST_PLAIN, exclude=True)
    reference: str  # A paper or project, with its year.
    licence: str  # The method's code or weights state it.
    code_url: str = ""
    deviations: tuple[str, ...] = ()  # The paper does otherwise: each point in one sentence.

    @field_validator("plain")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if value and (not value.isprintable() or value != value.strip()):
            raise ValueError("expected one line of text without control characters, and no space around it")
        return value


class DefenseCard(Card):
    """Card of a defense. The leaderboard that it enters follows from what it releases, and is not said here.

    ``output`` and ``track`` are of version 0.1: they may be left out, and must not contradict what is released.
    """

    family: str
    output: str | None = Field(None, exclude=True, repr=False)
    track: str | None = Field(None, exclude=True, repr=False)
    randomness: Randomness = "deterministic"
    learned: bool = False
    control: bool = False  # A control may release clear images, and never competes for a rank.
    # The design leaves this share of textured pixels untouched (eye mask: 0.8).
    clear_share: float = Field(0.0, ge=0, le=1)
    training_data: str = "none"
    weights_sha256: str = ""
    live: bool = True  # False: it protects only prepared images, and its contract cannot be checked.


class AttackCard(Card):
    """Card of an attack. ``measures`` names the scorer of its answer; ``knowledge`` says which view it is given."""

    family: str
    measures: str
    knowledge: Knowledge
    learned: bool = False
    shows_released: bool = False  # Its answer is the release itself, which pages can show.
    builds_on: tuple[str, ...] = ()  # This attack should never fall behind those.
    needs_surrogate: bool = False  # A recognizer with gradients.
    needs_protected_gallery: bool = False  # An attacker with a clear gallery and the oracle, or a second leak, has it.
    needs_gallery: bool = False  # A clear gallery of the target identities.
    needs_recognizer: bool = False  # Each recognizer has a cell of its own.
    tracks: tuple[str, ...] = ()  # It attacks what these tracks release; none named: images and representations.
    live: bool = True  # False: its answers were made elsewhere, to the releases of one row, and no other row has it.


class Guarantee(Config):
    """Differential privacy of one release: between neighbours who differ in what it is ``per``; several add up."""

    epsilon: float = Field(ge=0)
    delta: float = Field(0.0, ge=0, le=1)
    per: Literal["pixel", "pixels", "coefficient", "image", "identity"]
    pixels: int = Field(1, ge=1)  # Neighbours differ in so many pixels, where the guarantee is per pixels.


class TrainingLog(Config):
    """What an attack reports of its training.

    Attributes:
        shots: releases of each target that it made use of.
        training_images: images that it learned from.
        steps: steps of training that it took, of the ``steps`` of its parameters.
        validation: (step, error on people held out), of the first answer at step 0.
        converged: whether the error had settled; None of an attack that does not train by steps.
        notes: whatever else it reports.
    """

    shots: int = Field(ge=1)
    training_images: int = Field(0, ge=0)
    steps: int | None = Field(None, ge=0)
    validation: tuple[tuple[int, float], ...] = ()
    converged: bool | None = None
    notes: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, log: Mapping[str, Any]) -> TrainingLog:
        """From ``Attack.log``: known keys are fields, all others notes.

        Raises:
            ValidationError: ``shots`` is missing, or a key has another type.
        """
        known = {key: value for key, value in log.items() if key in cls.model_fields and key != "notes"}
        return cls(**known, notes={key: value for key, value in log.items() if key not in known})


class RecognizerCard(Card):
    """Card of a recognizer: how it wants its input and how two embeddings compare."""

    dimension: int
    metric: Literal["cosine", "euclidean"]
    training_data: str
    assets: tuple[str, ...] = ()  # Names in assets.py.
    expected_accuracy: dict[str, float] = Field(default_factory=dict)  # Data set -> clear 10-fold accuracy measured.

    @property
    def weak(self) -> bool:
        """Whether fewer than 97% of LFW's clear pairs are judged rightly; no shipped suite lists such a one."""
        return self.expected_accuracy.get("lfw", 1.0) < WEAK


class DatasetCard(Card):
    """Card of a data set. Faces of real people never reach a report."""

    real_people: bool
