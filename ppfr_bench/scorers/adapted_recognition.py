"""Recognition by whoever has adapted a recognizer to a cloak, and so chooses a threshold of its own."""

from __future__ import annotations

from ppfr_bench.scorers.recognition import Recognition


class AdaptedRecognition(Recognition):
    """As ``recognition``, but that the threshold of each answer is set on its own pairs of different people.

    The scores of a head that was learnt on cloaked images have another scale than those of one learnt on clear ones.
    """

    version = 1
    title = "recognition of cloaked faces by an adapted recognizer"
    frozen = False


SCORER = AdaptedRecognition
