"""Control: the likeness of answers that rebuild nothing, as marks for the reconstructions to beat."""

from __future__ import annotations

from ppfr_bench.scorers.reconstruction import Reconstruction


class Control(Reconstruction):
    """As a reconstruction; it sets no privacy, and nothing counts as regained."""

    version = 1
    title = "likeness of faces that are not rebuilt"
    sets = ""
    ignores_target = True

    def leaks(self, name: str) -> bool:
        """Never."""
        return False


SCORER = Control
