"""Erasure: whether recognizers recognise a cloaked face again once somebody has erased the cloak."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ppfr_bench.metrics.intervals import weighted_mean
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap, estimate, mean, measurement
from ppfr_bench.scorers.recognition import accepted_at

_FAR, _RATE = 1e-2, "tar_at_far_1e-2"


class Erasure(Scorer):
    """The erasure success rate: the true accept rate of erased images over that of clear ones, at FAR 1%.

    It sets no privacy: whoever has the key is meant to see the face. It is 1 where erasing brings all back. A wrong key
    has done nothing where it is what the cloaked images themselves reach.
    """

    version = 1
    title = "erasure of a cloak"
    metrics = ("erasure_success", _RATE)

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """From similarities (targets, gallery) of the erased images, and of clear ones."""
        found, n = accepted_at(inputs, truth, _FAR), len(truth.targets)
        if isinstance(found, str):
            missing = estimate(None, n, reason=found)
            return {name: measurement(name, missing) for name in self.metrics}
        weights, people = bootstrap.items(truth.targets), bootstrap.people
        rates = [mean(hits, weights, people) for hits in (found.answer, found.ceiling)]
        success = estimate(None, n, reason="no clear image is accepted")
        if found.ceiling.any():
            drawn = [weighted_mean(hits, weights) for hits in (found.answer, found.ceiling)]
            with np.errstate(divide="ignore", invalid="ignore"):
                success = estimate(float(found.answer.mean() / found.ceiling.mean()), n, drawn[0] / drawn[1])
        return {
            "erasure_success": measurement("erasure_success", success),
            _RATE: measurement(_RATE, rates[0], ceiling=rates[1]),
        }


SCORER = Erasure
