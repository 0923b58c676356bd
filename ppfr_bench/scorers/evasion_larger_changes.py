"""Evasion by changes that are larger than those that robustness is told of."""

from __future__ import annotations

from ppfr_bench.robustness.api import LARGER
from ppfr_bench.scorers.evasion import Evasion


class EvasionLargerChanges(Evasion):
    """As ``evasion``, told of an l2 norm of 8: for attacks without gradients, which need changes so large.

    It sets a privacy of its own, as robustness is told of an l2 norm of 1.
    """

    version = 1
    title = "decisions changed by larger changes"
    sets = "larger_changes"
    reference = LARGER


SCORER = EvasionLargerChanges
