"""DUCD where the service answers with a name and no probabilities."""

from __future__ import annotations

from typing import ClassVar

from ppfr_bench.robustness.api import Access

from .ducd import Ducd


class DucdTop1(Ducd):
    """As DUCD, from names alone. It asks nothing of the defender's people, and learns who is on their images."""

    version = 1
    card = Ducd.card.model_copy(
        update={
            "title": "DUCD, labels only",
            "plain": "Trains a substitute for a recognition service that gives only names and no scores. The "
            "substitute decides under random noise, which makes it possible to prove for many photos that no "
            "small change alters the decision.",
            "training_data": "the names that the service gives photos of the enrolled people that it was not trained "
            "on; at most 2,000 images of the defender's people and who is on them",
        }
    )
    access: ClassVar[Access] = "labels"


DEFENSE = DucdTop1
