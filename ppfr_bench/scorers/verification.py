"""Verification: what a black-box recognizer still does, on clear pairs and on protected ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ppfr_bench.api import Pairs, Recognizer
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import verification as verify
from ppfr_bench.metrics.intervals import weighted_auc, weighted_eer, weighted_mean
from ppfr_bench.metrics.leakage import retention
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, estimate, measurement
from ppfr_bench.scorers.groups import compared_in_groups
from ppfr_bench.scorers.linkage import FAR, accuracy_draws, true_accept_rate

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage

CHANCE = 0.5  # A coin verifies with this accuracy.
FMR = {"fnmr_at_fmr_1e-2": 1e-2, "fnmr_at_fmr_1e-3": 1e-3}
_PAIRS = 20_000  # Pairs that are compared at once.
IMAGES = 2000  # At most so many are compared all with all, where the protocol has too few impostor pairs.


class Verification(Scorer):
    """Accuracy (threshold from the other folds), AUC, EER, TAR at FAR; of protected pairs beside the clear ones.

    It scores no attack but recognizers: ``clear`` for the canary, ``protected`` for what a defense keeps.
    """

    version = 2
    title = "verification by a black-box recognizer"
    metrics = ("accuracy", "auc", "eer", *FAR, *FMR, "retention")

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """Embeddings: of the canary's images; or of what is released, of the same unprotected, and for a threshold."""
        assert cell.recognizer is not None, "it is a recognizer that is measured"
        if cell.kind == "canary":
            return {"canary": graph.embed(cell.recognizer, "canary")}
        untouched = cell.recognizer.model_copy(update={"label": cell.recognizer.name, "config": {}})
        released = graph.adapt if cell.adapted else graph.embed_release
        return {
            "protected": released(cell.recognizer, cell.defense),
            "clear": graph.embed(untouched, "evaluation"),
            "calibration": graph.embed(untouched, "calibration"),
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Never called: a recognizer's similarity is needed, see ``canary`` and ``utility``."""
        raise UserError("the scorer 'verification' scores recognizers, no attack", "Name another in `measures`.")

    def canary(
        self, embeddings: Array, recognizer: Recognizer, truth: Truth, bootstrap: Bootstrap
    ) -> dict[str, Measurement]:
        """Clear against clear, on the standard protocol of the data set."""
        faces, pairs = truth.dataset.canary
        return self._verify(similarities(recognizer, embeddings, pairs), pairs, faces.identities, bootstrap)

    def utility(
        self, inputs: Mapping[str, Arrays], recognizer: Recognizer | None, truth: Truth, bootstrap: Bootstrap
    ) -> tuple[dict[str, Measurement], dict[str, Any]]:
        """What a recognizer still does on protected pairs, beside the clear ones; and for the log, the frozen threshold
        and the scores.
        """
        assert recognizer is not None, "it is a recognizer that is measured"
        pairs, identities = truth.dataset.pairs, truth.dataset.evaluation.identities
        protected, clear = (
            similarities(recognizer, np.asarray(inputs[name]["embeddings"]), pairs) for name in ("protected", "clear")
        )
        frozen = frozen_threshold(recognizer, np.asarray(inputs["calibration"]["embeddings"]))
        out = self._verify(protected, pairs, identities, bootstrap)
        weights, n = bootstrap.pairs(identities, pairs), len(pairs)
        kept, before = (verify.k_fold_accuracy(scores, pairs.same, pairs.fold) for scores in (protected, clear))
        now, then = (accuracy_draws(result.correct, pairs.same, weights) for result in (kept, before))
        at_frozen = (protected >= frozen) == pairs.same
        people = bootstrap.people
        drawn = accuracy_draws(at_frozen, pairs.same, weights)
        frozen_accuracy = estimate(float(at_frozen.mean()), n, drawn, people=people)
        out["accuracy_frozen"] = measurement("accuracy", frozen_accuracy)
        out["clear_accuracy"] = measurement("accuracy", estimate(before.accuracy, n, then, people=people))
        value = retention(kept.accuracy, before.accuracy, CHANCE)
        out["retention"] = measurement("retention", estimate(value, n, retention(now, then, CHANCE), keep=True))
        genuine, drawn = protected[pairs.same], weights[:, pairs.same]
        impostors = protected[~pairs.same]
        if len(impostors) < verify.impostors_needed(min(FMR.values())):
            impostors = all_impostors(recognizer, np.asarray(inputs["protected"]["embeddings"]), identities)
        for name, fmr in FMR.items():
            out[name] = measurement(name, false_non_match_rate(genuine, impostors, fmr, drawn, people))
        curves = Curves.of_scores(genuine, impostors, verify.detection_error_tradeoff(genuine, impostors))
        log: dict[str, Any] = {"threshold_frozen": float(f"{frozen:.6g}"), "scores": curves.model_dump(mode="json")}
        if groups := _by_group(truth, pairs, kept.correct, before.correct, weights):
            log["groups"] = groups
        return out, log

    def _verify(self, scores: Array, pairs: Pairs, identities: Array, bootstrap: Bootstrap) -> dict[str, Measurement]:
        weights = bootstrap.pairs(identities, pairs)
        result = verify.k_fold_accuracy(scores, pairs.same, pairs.fold)
        n, same, people = len(pairs), pairs.same, bootstrap.people
        found: dict[str, Estimate] = {
            "accuracy": estimate(
                result.accuracy, n, accuracy_draws(result.correct, pairs.same, weights), people=people
            ),
            "auc": estimate(verify.auc(scores, same), n, weighted_auc(scores, same, weights), people=people),
            "eer": estimate(verify.eer(scores, same), n, weighted_eer(scores, same, weights), people=people),
        }
        for name, far in FAR.items():
            found[name] = true_accept_rate(scores, same, far, weights[:, same], people)
        return {name: measurement(name, one) for name, one in found.items()}


def similarities(recognizer: Recognizer, embeddings: Array, pairs: Pairs) -> Array:
    """Of each pair, float64 (m,)."""
    embeddings = embeddings.astype(np.float64)
    return recognizer.similarity(embeddings[pairs.left], embeddings[pairs.right])


def all_impostors(recognizer: Recognizer, embeddings: Array, identities: Array) -> Array:
    """Similarities of all pairs of different people among at most 2,000 images, evenly spaced, float64 (m,).

    Each pair is compared as those of the protocol are: a matrix product adds up in another order, and where every image
    is released alike it would tell equal scores apart.
    """
    rows = np.arange(len(embeddings))[:: -(-len(embeddings) // IMAGES)]
    chosen, who = embeddings[rows].astype(np.float64), identities[rows]
    left, right = np.nonzero(np.triu(who[:, None] != who[None, :], 1))
    parts = [slice(start, start + _PAIRS) for start in range(0, len(left), _PAIRS)]
    scores = [recognizer.similarity(chosen[left[part]], chosen[right[part]]) for part in parts]
    return np.concatenate(scores) if scores else np.empty(0)


def false_non_match_rate(genuine: Array, impostors: Array, fmr: float, weights: Array, people: int) -> Estimate:
    """FNMR at an FMR; the threshold stays where all impostors put it.

    Args:
        weights: of the genuine pairs, (replicates, genuine pairs).
    """
    scores, same = np.concatenate([genuine, impostors]), np.arange(len(genuine) + len(impostors)) < len(genuine)
    found = verify.tar_at_far(scores, same, fmr)
    if found.threshold is None or found.value is None:
        return estimate(None, found.n, reason=found.reason.replace("FAR", "FMR"))
    rejected = (genuine < found.threshold).astype(float)
    return estimate(1 - found.value, found.n, weighted_mean(rejected, weights), people=people)


def frozen_threshold(recognizer: Recognizer, embeddings: Array) -> float:
    """The best threshold on clear images of the attacker's people: what an untouched deployment would keep.

    Args:
        embeddings: (2 n, d), two photos of n people: the first of each, then the second of each.
    """
    left, right = np.split(embeddings.astype(np.float64), 2)
    scores = recognizer.similarity_matrix(left, right)
    genuine, impostor = scores.diagonal(), scores[~np.eye(len(scores), dtype=bool)]
    # Impostors as many as genuine pairs, evenly spaced in rank, give both errors the same weight.
    impostor = np.sort(impostor)[:: max(1, len(impostor) // len(genuine))]
    scores = np.concatenate([genuine, impostor])
    return float(verify.best_threshold(scores, np.arange(len(scores)) < len(genuine)))


def _by_group(truth: Truth, pairs: Pairs, kept: Array, before: Array, weights: Array) -> dict[str, Any]:
    """Retention on pairs whose images are of one group, at the thresholds that all pairs have chosen."""

    def kept_of(mine: Array) -> tuple[float, Array] | None:
        if not pairs.same[mine].any() or pairs.same[mine].all():
            return None
        both = [_class_rates(correct[mine], pairs.same[mine], weights[:, mine]) for correct in (kept, before)]
        return retention(both[0][0], both[1][0], CHANCE), np.asarray(retention(both[0][1], both[1][1], CHANCE))

    return compared_in_groups(truth, np.stack([pairs.left, pairs.right], axis=1), {"retention": kept_of})


def _class_rates(correct: Array, same: Array, weights: Array) -> tuple[float, Array]:
    """The mean of the two classes' shares of right answers, each counting half, and its draws."""
    classes = [(correct[of].astype(float), weights[:, of]) for of in (same, ~same)]
    value = float(np.mean([values.mean() for values, _ in classes]))
    return value, np.asarray(np.mean([weighted_mean(values, drawn) for values, drawn in classes], axis=0))


SCORER = Verification
