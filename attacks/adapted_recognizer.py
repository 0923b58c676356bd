"""A recognizer that is adapted to a cloak, by heads that are learnt on cloaked and clear pairs."""

from __future__ import annotations

from pydantic import Field

from ppfr_bench.api import AttackCard

from .parrot import Parrot, ParrotConfig


class AdaptedRecognizerConfig(ParrotConfig):
    """``releases``: of each gallery photo; a deterministic cloak gives the same each time."""

    releases: int = Field(1, ge=1, le=64)


class AdaptedRecognizer(Parrot):
    """Attack ``parrot`` on cloaks: cloaks its own people's photos and learns heads on a frozen recognizer.

    Whoever can cloak photos can adapt a recognizer to the cloak, as the operator of a service that meets it often will.
    """

    version = 1
    card = AttackCard(
        title="Recognizer adapted to the cloak",
        plain="The operator of a recognition service who can also cloak photos. They train the recognizer on "
        "cloaked and clear photos of their own people, so that it recognises cloaked faces again.",
        family="recognition",
        reference="Newton et al., IEEE TKDE 2005 (parrot recognition); Radiya-Dixit et al., Data Poisoning Won't Save "
        "You From Facial Recognition, ICLR 2022 (adaptive recognizers)",
        licence="MIT",
        measures="adapted_recognition",
        knowledge="aware",
        learned=True,
        needs_gallery=True,
        needs_recognizer=True,
        builds_on=("recognition",),
        tracks=("cloak",),
        deviations=("A closed-form head on a frozen recognizer instead of a network trained anew.",),
    )
    Config = AdaptedRecognizerConfig


ATTACK = AdaptedRecognizer
