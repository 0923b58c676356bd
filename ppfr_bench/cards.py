"""Cards: what is known of a component and where it comes from; and ``Config``, which parameters derive from.

Apart from ``api``, which has them all, so that what only reads records and writes pages does not load torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Randomness = Literal["deterministic", "per_call", "per_image_key", "per_user_key", "per_session_key"]
Knowledge = Literal["oblivious", "aware", "informed"]
# A control rebuilds or links nothing; what it scores stands beside the attacks and sets no privacy.
Measures = Literal["appearance", "attributes", "identity", "unlinkability", "control"]
Track = Literal["recognition", "representation", "template", "cloak", "robustness"]


class Config(BaseModel):
    """Parameters of a plug-in, checked before anything runs: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Card(Config):
    """What is known of a component, and where it comes from."""

    title: str
    reference: str  # paper or project, with its year
    licence: str  # of the method's code or weights, as stated there
    code_url: str = ""
    deviations: tuple[str, ...] = ()  # from the paper, each in one sentence


class DefenseCard(Card):
    """Card of a defense; ``output`` and ``track`` decide which leaderboard it enters."""

    family: str
    output: Literal["image", "representation", "template"] = "image"
    track: Track = "recognition"
    randomness: Randomness = "deterministic"
    learned: bool = False
    control: bool = False  # a positive or negative control: may release clear images, never competes for a rank
    clear_share: float = Field(0.0, ge=0, le=1)  # share of textured pixels left untouched by design (eye mask: 0.8)
    training_data: str = "none"
    weights_sha256: str = ""
    live: bool = True  # protects any image; False: only those that were prepared, and the contract cannot be checked


class AttackCard(Card):
    """Card of an attack. ``measures`` says which privacy it sets; ``knowledge`` which view it is given."""

    family: str
    measures: Measures
    knowledge: Knowledge
    learned: bool = False
    builds_on: tuple[str, ...] = ()  # attacks that a stronger one, as this is, should never fall behind
    needs_surrogate: bool = False  # a recognizer with gradients
    needs_protected_gallery: bool = False  # what an attacker with a clear gallery and the oracle, or a second leak, has
    needs_gallery: bool = False  # a clear gallery of the target identities
    needs_recognizer: bool = False  # one cell a recognizer


class Guarantee(Config):
    """Differential privacy of one release: between neighbours who differ in what it is ``per``; several add up."""

    epsilon: float = Field(ge=0)
    delta: float = Field(0.0, ge=0, le=1)
    per: Literal["pixel", "pixels", "coefficient", "image", "identity"]
    pixels: int = Field(1, ge=1)  # in how many of them neighbours differ, where it is per pixels


class RecognizerCard(Card):
    """Card of a recognizer: how it wants its input and how two embeddings compare."""

    dimension: int
    metric: Literal["cosine", "euclidean"]
    training_data: str
    assets: tuple[str, ...] = ()  # names in assets.py
    expected_accuracy: dict[str, float] = Field(default_factory=dict)  # data set -> clear 10-fold accuracy measured


class DatasetCard(Card):
    """Card of a data set. Faces of real people never reach a report."""

    real_people: bool
