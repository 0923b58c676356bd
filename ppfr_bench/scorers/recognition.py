"""Recognition: what recognizers still do on cloaked images, or on what a counter-attack made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.identification import rank_k_hits
from ppfr_bench.metrics.verification import threshold_at_far
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, compared, estimate, mean, measurement

FAR = {"tar_at_far_1e-2": 1e-2, "tar_at_far_1e-3": 1e-3}


class Recognition(Scorer):
    """1:1 at thresholds frozen on clear pairs, and 1:N rank 1, each between chance and what is clear.

    A threshold is the one at which 1 clear pair of different people in 100 (in 1,000) is accepted, when the same
    recognizer compares clear targets with the clear gallery. A cloak that dodges is rejected there beside the photo of
    its own person; how many others it is taken for is told apart (``impersonation``).
    """

    version = 1
    title = "recognition of cloaked faces"
    sets = "recognition"
    metrics = ("rank_1", *FAR, "impersonation", "leakage")
    frozen: ClassVar[bool] = True  # Whether thresholds are those of clear pairs; else each answer has its own.

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """From similarities (targets, gallery) of the answer, and of the same attack where nothing is protected."""
        pairs, targets, gallery = _Pairs(inputs, truth), truth.targets, truth.gallery
        weights, people = bootstrap.items(targets), bootstrap.people
        here, chance, most = (
            rank_k_hits(scores, targets, gallery, 1)
            for scores in (pairs.answer, np.zeros_like(pairs.answer), pairs.ceiling)
        )
        out = {"rank_1": compared("rank_1", here, chance, most, weights, people, hits=True)}
        for name, far in FAR.items():
            found = pairs.at(far, frozen=self.frozen)
            if isinstance(found, str):
                out[name] = measurement(name, estimate(None, len(targets), reason=found))
                continue
            chance = np.full(len(targets), far)
            out[name] = compared(name, found.answer, chance, found.ceiling, weights, people, hits=True)
            if "impersonation" not in out:
                out["impersonation"] = measurement("impersonation", mean(found.taken, weights, people))
        return out


@dataclass(frozen=True)
class Accepted:
    """At one threshold, of each target, (n,) each.

    Attributes:
        answer, ceiling: the share of its person's gallery photos that are accepted, of the answer and unprotected.
        taken: the share of other people's photos that are accepted beside the answer.
    """

    answer: Array
    ceiling: Array
    taken: Array


class _Pairs:
    """Similarities (targets, gallery) of an answer and of its ceiling, and which of the pairs are of one person."""

    def __init__(self, inputs: Mapping[str, Arrays], truth: Truth) -> None:
        self.answer, self.ceiling = (
            np.asarray(inputs[name]["answer"], dtype=np.float64) for name in ("answer", "ceiling")
        )
        self.same = truth.targets[:, None] == truth.gallery[None, :]

    def at(self, far: float, *, frozen: bool) -> Accepted | str:
        """What is accepted at a FAR, on clear pairs or on the answer's own; why there are too few pairs to tell."""
        try:
            limit = threshold_at_far(self.ceiling[~self.same], far)
            own = limit if frozen else threshold_at_far(self.answer[~self.same], far)
        except UserError as few:
            return few.message
        return Accepted(
            _share(self.answer >= own, self.same), _share(self.ceiling >= limit, self.same),
            _share(self.answer >= own, ~self.same),
        )  # fmt: skip


def accepted_at(inputs: Mapping[str, Arrays], truth: Truth, far: float) -> Accepted | str:
    """What is accepted at the threshold of a FAR on clear pairs; why there are too few pairs to tell."""
    return _Pairs(inputs, truth).at(far, frozen=True)


def _share(accepted: Array, pairs: Array) -> Array:
    """For each target the share of its ``pairs`` that are accepted, (n,)."""
    share: Array = (accepted & pairs).sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    return share


SCORER = Recognition
