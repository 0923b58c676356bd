"""Representations: what is released are channels, which a recognizer reads once it is fine-tuned on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.record import Component
from ppfr_bench.tracks.base import (
    Column,
    Retention,
    Track,
    Utility,
    beside_column,
    mean_over_unseen,
    privacy_column,
    retention_column,
    score_column,
)
from ppfr_bench.tracks.image import PRIVACY
from ppfr_bench.tracks.ranking import mean_estimate

if TYPE_CHECKING:
    from ppfr_bench.api import Method


class Representation(Track):
    """Utility is what a recognizer keeps that was fine-tuned on what is released; beside it, what black boxes keep."""

    version = 1
    general = True
    title = "representation track"
    order = 20
    description = (
        "What is released are channels of its own: a recognizer is fine-tuned on them, and black boxes and people are "
        "given the image that is made of them."
    )

    def accepts(self, defense: type[Method]) -> bool:
        """Whatever releases no image."""
        from ppfr_bench.api import Defense  # Only who has loaded a defense asks, and pages do not load torch.

        return issubclass(defense, Defense) and not defense.releases_image()

    def utilities(self, recognizers: Sequence[Component], adapted: Component | None) -> Sequence[Component]:
        """The recognizers of the suite, and the one that is fine-tuned."""
        return [*recognizers, *([adapted] if adapted is not None else [])]

    def retention(self, utilities: Sequence[Utility]) -> Retention:
        """That of the fine-tuned recognizer; without one, that of the unseen ones."""
        unadapted = mean_over_unseen([utility for utility in utilities if not utility.adapted])
        adapted = [utility for utility in utilities if utility.adapted]
        if not adapted:
            return Retention(unadapted)
        measured = [utility.retention for utility in adapted if utility.state == "ok"]
        missing = Estimate(None, reason="no recognizer was fine-tuned on it")
        return Retention(mean_estimate(measured) if measured else missing, unadapted)

    def kept_by(self, utilities: Sequence[Utility]) -> Sequence[Utility]:
        """That of the fine-tuned recognizer; without one, those of the unseen ones."""
        adapted = [utility for utility in utilities if utility.adapted]
        return [one for one in adapted if one.state == "ok"] if adapted else super().kept_by(utilities)

    def axes(self) -> tuple[str, str]:
        """As of images, of the fine-tuned recognizer."""
        return "retention: what a fine-tuned recognizer keeps", super().axes()[1]

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """As of images, and what black boxes keep."""
        return (
            score_column("Harmonic mean of retention and appearance privacy."),
            retention_column(
                "Share of the clear accuracy above chance that is left to a recognizer fine-tuned on what is released."
            ),
            beside_column(
                "black_box_retention", "Retention, black box",
                "The same of unseen recognizers that are given the image made of what is released.",
            ),
            *(privacy_column(name, PRIVACY.get(name, "")) for name in privacies),
        )  # fmt: skip


TRACK = Representation
