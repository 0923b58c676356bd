"""Matching: what the decisions of a template protection keep of those of plain templates, and what a search costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ppfr_bench.api import Recognizer
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import verification as verify
from ppfr_bench.metrics.intervals import weighted_auc, weighted_eer, weighted_mean
from ppfr_bench.metrics.leakage import retention
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Scorer, Truth
from ppfr_bench.scorers.bootstrap import Array, Bootstrap, estimate, measurement
from ppfr_bench.scorers.linkage import accuracy_draws
from ppfr_bench.scorers.verification import CHANCE, FMR, false_non_match_rate

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.runner.plan import Cell
    from ppfr_bench.stages.spec import Stage


class Matching(Scorer):
    """Accuracy, FNMR and FMR of decisions at the threshold of the other folds, beside those of plain templates.

    It scores no attack but a method's use. ``same_decisions`` is of the decisions of the system as it runs, on all
    pairs of the data set's own protocol.
    """

    version = 1
    title = "decisions on protected templates"
    metrics = ("accuracy", "auc", "eer", "fmr", "fnmr", *FMR, "retention", "same_decisions", "bytes_up", "bytes_down")

    def inputs(self, graph: Graph, cell: Cell) -> dict[str, Stage]:
        """Scores of pairs, and decisions."""
        assert cell.recognizer is not None, "templates are made by a recognizer"
        spec = {
            "defense": cell.defense.spec, "recognizer": cell.recognizer.spec, "seed": graph.setting.seed,
            "dataset": graph.setting.dataset_revision, "key": 0, "version": 1,
        }  # fmt: skip
        return {
            name: graph.stage(f"template.{name}", spec, {"embeddings": graph.embed(cell.recognizer, of)})
            for name, of in (("matched", "evaluation"), ("decided", "canary"))
        }

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """Never called: see ``utility``."""
        raise UserError("the scorer 'matching' scores decisions, no attack", "Name another in `measures`.")

    def utility(
        self, inputs: Mapping[str, Arrays], recognizer: Recognizer | None, truth: Truth, bootstrap: Bootstrap
    ) -> tuple[dict[str, Measurement], dict[str, Any]]:
        """From ``matched`` and ``decided``."""
        pairs, identities = truth.dataset.pairs, truth.dataset.evaluation.identities
        scores, plain = (np.asarray(inputs["matched"][name]) for name in ("scores", "plain"))
        weights, n, people, same = bootstrap.pairs(identities, pairs), len(pairs), bootstrap.people, pairs.same
        kept, before = (verify.k_fold_accuracy(one, same, pairs.fold) for one in (scores, plain))
        now, then = (accuracy_draws(one.correct, same, weights) for one in (kept, before))
        out = {
            "accuracy": measurement("accuracy", estimate(kept.accuracy, n, now, people=people)),
            "plain_accuracy": measurement("accuracy", estimate(before.accuracy, n, then, people=people)),
            "auc": measurement(
                "auc", estimate(verify.auc(scores, same), n, weighted_auc(scores, same, weights), people=people)
            ),
            "eer": measurement(
                "eer", estimate(verify.eer(scores, same), n, weighted_eer(scores, same, weights), people=people)
            ),
        }
        value = retention(kept.accuracy, before.accuracy, CHANCE)
        out["retention"] = measurement("retention", estimate(value, n, retention(now, then, CHANCE), keep=True))
        for name, of in (("fnmr", same), ("fmr", ~same)):
            wrong = (~kept.correct[of]).astype(float)
            drawn = weighted_mean(wrong, weights[:, of])
            out[name] = measurement(name, estimate(float(wrong.mean()), len(wrong), drawn, people=people))
        for name, fmr in FMR.items():
            found = false_non_match_rate(scores[same], scores[~same], fmr, weights[:, same], people)
            out[name] = measurement(name, found)
        out["same_decisions"] = measurement("same_decisions", self._same(inputs["decided"], truth, bootstrap))
        for name, size in zip(("bytes_up", "bytes_down"), np.asarray(inputs["matched"]["cost"]), strict=True):
            out[name] = measurement(name, estimate(float(size), 1))
        curves = Curves.of_scores(
            scores[same], scores[~same], verify.detection_error_tradeoff(scores[same], scores[~same])
        )
        log = {"scores": curves.model_dump(mode="json")}
        for name in ("matched", "decided"):
            log |= {key: value for key, value in getattr(inputs[name], "meta", {}).items() if key in ("cost", "timing")}
        return out, log

    def _same(self, decided: Arrays, truth: Truth, bootstrap: Bootstrap) -> Any:
        """Share of equal decisions; drawn over the people of the data set's own protocol."""
        equal = (np.asarray(decided["accepted"]) == np.asarray(decided["quantised"])).astype(float)
        faces, pairs = truth.dataset.canary
        everybody = Bootstrap(bootstrap.replicates, bootstrap.seed, np.unique(faces.identities))
        draws: Array = weighted_mean(equal, everybody.pairs(faces.identities, pairs))
        return estimate(float(equal.mean()), len(equal), draws, people=everybody.people)


SCORER = Matching
