"""Images: what is released is an image, which any recognizer reads as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ppfr_bench.tracks.base import Column, Track, privacy_column, retention_column, score_column

if TYPE_CHECKING:
    from ppfr_bench.api import Method

PRIVACY = {
    "appearance": "1 − the largest leakage over all attacks that look at or rebuild the face, and over LPIPS, SSIM and "
    "MS-SSIM. The attack and the measure that set it stand below the number.",
    "attribute": "1 − the largest leakage over the attributes that are read off a protected face, such as the tone of "
    "the skin. It is not part of the score.",
    "identity": "1 − the largest leakage over the attacks that name the person from a clear gallery. It is not part of "
    "the score: what an unadapted recognizer matches, it also links.",
}


class Image(Track):
    """Utility is what black-box recognizers keep; no recognizer is fine-tuned."""

    version = 1
    general = True
    title = "image track"
    order = 10
    description = "What is released is an image, and black-box recognizers are given it as it is."

    def accepts(self, defense: type[Method]) -> bool:
        """Whatever releases an image."""
        from ppfr_bench.api import Defense  # Only who has loaded a defense asks, and pages do not load torch.

        return issubclass(defense, Defense) and defense.releases_image()

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """Score, retention and the privacies."""
        return (
            score_column("Harmonic mean of retention and appearance privacy."),
            retention_column(
                "(accuracy on released images − ½) / (accuracy on clear images − ½), the mean over recognizers that "
                "the defense neither reads nor was trained on. 0 is a blank image, 1 is no defense."
            ),
            *(privacy_column(name, PRIVACY.get(name, "")) for name in privacies),
        )


TRACK = Image
