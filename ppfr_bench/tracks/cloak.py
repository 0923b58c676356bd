"""Cloaks: what is released looks like the clear image to people, and recognizers are to fail on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from ppfr_bench.tracks.base import Column, Track, UtilityColumn, privacy_column, retention_column, score_column

if TYPE_CHECKING:
    from ppfr_bench.api import Method
    from ppfr_bench.records.record import Component

RECOGNITION = (
    "1 − the largest share of clear recognition that is left or regained: 1:1 at thresholds frozen on clear pairs, and "
    "1:N rank 1, over all recognizers and over all counter-attacks. Recognizers that a cloak was trained on count too, "
    "but leak less than those that it never saw. What set it stands below the number."
)


class Cloak(Track):
    """Utility is likeness to the clear image; privacy is what no recognizer recognises after any counter-attack."""

    version = 1
    title = "cloak track"
    order = 40
    description = "What is released looks like the clear image to people, and recognizers are to fail on it."
    lead = (
        "How much recognizers still recognise of cloaked faces after counter-attacks, and how like the clear image "
        "they look."
    )
    priced = False
    utility_scorer = "likeness"
    utility_title = "What people see of it"
    utility_description = (
        "Released targets against the clear ones. Likeness is the least share that is kept of LPIPS and SSIM."
    )
    privacies = ("recognition",)
    kept_title = "Likeness to the clear image"
    hidden_titles: ClassVar[Mapping[str, str]] = {"recognition": "Hidden from recognizers"}
    likeness = ()
    headline = "still_detected"
    headline_title = "Faces still found, %"
    utility_columns = (
        UtilityColumn("retention", "Likeness", percent=False),
        UtilityColumn("lpips", "LPIPS", percent=False, file="interval"),
        UtilityColumn("ssim", "SSIM", percent=False, file="interval"),
        UtilityColumn("psnr", "PSNR, dB", percent=False, file="value"),
        UtilityColumn("still_detected", "Faces still found, %", file="value"),
    )

    def accepts(self, defense: type[Method]) -> bool:
        """Whatever derives from ``ppfr_bench.cloak.api.Cloak``."""
        from ppfr_bench.cloak.api import Cloak as Base  # Only who has loaded a defense asks: pages do not load torch.

        return issubclass(defense, Base)

    def utilities(self, recognizers: Sequence[Component], adapted: Component | None) -> Sequence[Component | None]:
        """One cell: likeness needs no recognizer."""
        return [None]

    def axes(self) -> tuple[str, str]:
        """Likeness, and what is hidden from recognizers."""
        return "likeness to the clear image", "recognition that is lost after the best counter-attack"

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """Score, likeness and what is hidden from recognizers."""
        return (
            score_column("Harmonic mean of likeness and recognition privacy."),
            retention_column(
                "The least, over LPIPS and SSIM to the clear image, of the share that is kept between a black image "
                "(0) and the clear image (1).",
                "Likeness",
            ),
            *(privacy_column(name, RECOGNITION if name == "recognition" else "") for name in privacies),
        )


TRACK = Cloak
