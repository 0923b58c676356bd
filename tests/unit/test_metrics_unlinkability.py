"""D(s) and D_sys: known answers, the published code on the same histogram, chance, and what the scorer makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfr_bench.errors import UserError
from ppfr_bench.metrics import metric_info
from ppfr_bench.metrics.unlinkability import binned, d_sys, global_measure, local_measure
from ppfr_bench.records.estimate import Estimate, column
from ppfr_bench.scorers.base import Scorer
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.linkage import Linkage, verification_pairs
from ppfr_bench.scorers.unlinkability import Unlinkability


def test_local_measure_by_hand() -> None:
    """LR = 3: 2 * 3 / 4 - 1 = 0.5; LR = 1 and below: 0; mated only: 1; nothing at all: 0."""
    mated, others = np.array([0.6, 0.2, 0.1, 0.1, 0.0]), np.array([0.2, 0.2, 0.6, 0.0, 0.0])
    np.testing.assert_allclose(local_measure(mated, others), [0.5, 0, 0, 1, 0])
    assert global_measure(mated, others) == pytest.approx(0.6 * 0.5 + 0.1)


def test_a_higher_prior_links_more() -> None:
    mated, others = np.array([0.5, 0.5]), np.array([0.5, 0.5])
    assert global_measure(mated, others) == 0
    assert global_measure(mated, others, omega=3.0) == pytest.approx(0.5)  # LR = 3 everywhere
    assert global_measure(mated, others, omega=0.5) == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.floats(0.1, 5))
def test_the_formula_of_the_paper(bins: list[tuple[int, int]], omega: float) -> None:
    """D = 2 omega LR / (1 + omega LR) - 1, written out; an empty denominator is taken as in the authors' code."""
    mated, others = np.array(bins, dtype=np.float64).T
    if not mated.sum() or not others.sum():
        assert np.isnan(global_measure(mated, others, omega))
        return
    p, q = mated / mated.sum(), others / others.sum()
    expected = 0.0
    for a, b in zip(p, q, strict=True):
        ratio = omega * a / b if b else np.inf
        local = 0.0 if ratio <= 1 else 1.0 if np.isinf(ratio) else 2 * ratio / (1 + ratio) - 1
        expected += (local if a or b else 0.0) * a
    assert global_measure(mated, others, omega) == pytest.approx(expected, abs=1e-12)
    assert 0 <= expected <= 1


def test_separable_scores_are_linked() -> None:
    random = np.random.RandomState(0)
    found = d_sys(random.standard_normal(500) + 30, random.standard_normal(20_000))
    assert found.value is not None and found.bias is not None
    assert found.value == pytest.approx(1, abs=1e-12) and found.bias < 0.1


@pytest.mark.parametrize("mated", [25, 120, 1000])
def test_one_distribution_gives_what_chance_gives(mated: int) -> None:
    random = np.random.RandomState(1)
    found = [d_sys(random.standard_normal(mated), random.standard_normal(20_000)) for _ in range(20)]
    values = [one.value for one in found if one.value is not None]
    biases = [one.bias for one in found if one.bias is not None]
    assert len(values) == len(biases) == 20
    assert np.mean(values) == pytest.approx(np.mean(biases), abs=0.02)
    assert np.mean(biases) > 0.03, "without the baseline, nothing would look unlinkable"


def test_constant_scores_are_unlinkable() -> None:
    found = d_sys(np.zeros(100), np.zeros(1000))
    assert found.value == found.bias == 0


def test_known_overlap() -> None:
    """Uniform on [0, 1] against uniform on [0, 4]: LR = 4 on all mated scores, D = 8 / 5 - 1 = 0.6."""
    mated, others = (np.arange(400) + 0.5) / 400, (np.arange(40_000) + 0.5) / 10_000
    found = d_sys(mated, others)
    assert found.value == pytest.approx(0.6, abs=0.005)


@pytest.mark.parametrize(("apart", "truth"), [(1.0, 0.294), (2.0, 0.617), (4.0, 0.943)])
def test_no_chance_is_subtracted_where_scores_tell(apart: float, truth: float) -> None:
    """Two normal distributions, whose D_sys an integral gives, from 120 mated scores as a suite has."""
    random = np.random.RandomState(6)
    found = [d_sys(random.normal(apart, 1, 120), random.normal(0, 1, 7080)).value for _ in range(60)]
    assert np.mean([one for one in found if one is not None]) == pytest.approx(truth, abs=0.015)


@pytest.mark.parametrize("turn", [lambda s: 3 * s - 7, lambda s: -s], ids=["scaled", "distance"])
def test_only_the_ratio_counts(turn: object) -> None:
    random = np.random.RandomState(2)
    mated, others = random.standard_normal(300) + 1, random.standard_normal(3000)
    assert callable(turn)
    before, after = d_sys(mated, others), d_sys(turn(mated), turn(others))
    assert after.value == pytest.approx(before.value, abs=0.02)  # a score on an edge may change bins


def test_the_curve_is_what_the_value_is_the_integral_of() -> None:
    random = np.random.RandomState(3)
    found = d_sys(random.standard_normal(400) + 2, random.standard_normal(5000))
    assert found.value is not None and found.bias is not None
    width = found.centres[1] - found.centres[0]
    assert len(found.centres) == len(found.mated_density) == len(found.non_mated_density) == len(found.local) == 40
    assert found.mated_density.sum() * width == pytest.approx(1)
    assert found.non_mated_density.sum() * width == pytest.approx(1)
    assert (found.local * found.mated_density).sum() * width == pytest.approx(found.value)
    assert found.local.min() == 0 and found.local.max() == 1


@pytest.mark.parametrize(("mated", "bins"), [(5, 1), (20, 2), (95, 9), (1000, 100), (5000, 100)])
def test_ten_mated_scores_a_bin_and_a_hundred_bins_at_most(mated: int, bins: int) -> None:
    random = np.random.RandomState(0)
    values, others = random.random_sample(mated), random.random_sample(50)
    first, second, edges = binned(values, others)
    assert len(edges) == bins + 1
    for scores, at in ((values, first), (others, second)):
        np.testing.assert_array_equal(np.bincount(at, minlength=bins), np.histogram(scores, edges)[0])


def test_few_scores_give_no_value() -> None:
    found = d_sys(np.zeros(19), np.zeros(1000))
    assert found.value is None and found.bias is None and len(found.centres) == 0
    assert found.reason == "D_sys needs 20 mated and 20 non-mated scores, there are 19 and 1,000"
    assert d_sys(np.zeros(100), np.zeros(0)).value is None


def test_the_same_seed_gives_the_same_bias() -> None:
    random = np.random.RandomState(4)
    mated, others = random.standard_normal(100), random.standard_normal(1000)
    assert d_sys(mated, others).bias == d_sys(mated, others).bias != d_sys(mated, others, seed=1).bias


def test_what_cannot_be_a_score_is_refused() -> None:
    good = np.zeros(30)
    with pytest.raises(UserError, match="1 of them not finite"):
        d_sys(np.r_[good, np.nan], good)
    with pytest.raises(UserError, match="non-mated scores of shape"):
        d_sys(good, good.reshape(5, 6))
    for wrong in ({"omega": 0.0}, {"omega": float("nan")}, {"shuffles": 0}):
        with pytest.raises(UserError, match="omega above 0 and a shuffle"):
            d_sys(good, good, **wrong)


# What the scorer makes of it -----------------------------------------------------------------------------------------


def similarities(strength: float, targets: int = 240, people: int = 60) -> tuple[np.ndarray, ...]:
    """Noise, and so much more for the right person."""
    identities, gallery = np.arange(targets) % people, np.arange(people)
    same = identities[:, None] == gallery[None, :]
    return np.random.RandomState(5).standard_normal((targets, people)) + strength * same, identities, gallery


def scored(scorer: Scorer, answer: Any, ceiling: Any, targets: Any, gallery: Any, draws: int) -> dict[str, Estimate]:
    """What a scorer makes of two answers, under the names that tidy tables have."""
    truth: Any = SimpleNamespace(targets=targets, gallery=gallery)
    inputs = {"answer": {"answer": answer}, "ceiling": {"answer": ceiling}}
    metrics = scorer.score(inputs, truth, Bootstrap(draws, 0, gallery))
    return {column(name, part): one for name, found in metrics.items() for part, one in found.parts()}


def test_unlinkability_beside_its_ceiling() -> None:
    (answer, targets, gallery), (ceiling, *_) = similarities(1.0), similarities(8.0)
    metrics = scored(Unlinkability(), answer, ceiling, targets, gallery, 200)
    assert set(metrics) == {
        "d_sys_blind", *(name + end for name in ("d_sys", "d_sys_bias", "rank_1") for end in ("", "_ceiling"))
    }  # fmt: skip
    assert metrics["d_sys_blind"] == metrics["d_sys_bias"]
    for name in ("d_sys", "d_sys_ceiling", "rank_1", "rank_1_ceiling"):
        value, interval = metrics[name].value, metrics[name].interval
        assert value is not None and interval is not None
        assert interval[0] <= value <= interval[1], name
    assert metrics["d_sys"].interval != metrics["d_sys_ceiling"].interval
    low, high = (metrics[name].value for name in ("d_sys", "d_sys_ceiling"))
    assert low is not None and high is not None and 0.2 < low < 0.4 < 0.95 < high
    assert metrics["d_sys_bias"].interval is None
    assert metrics["d_sys"].n == 240
    assert scored(Unlinkability(), answer, ceiling, targets, gallery, 200) == metrics


def test_unlinkability_of_a_blank_image_and_of_too_few() -> None:
    blank, targets, gallery = similarities(0.0)
    metrics = scored(Unlinkability(), 0 * blank, blank, targets, gallery, 50)
    assert metrics["d_sys"].value == 0
    assert metrics["rank_1"].value == pytest.approx(1 / 60, abs=1e-6)
    few, targets, gallery = similarities(8.0, targets=6, people=6)
    metrics = scored(Unlinkability(), few, few, targets, gallery, 50)
    assert metrics["d_sys"].value is None and metrics["d_sys_bias_ceiling"].value is None
    assert "there are 6 and 30" in metrics["d_sys"].reason


def test_linkage_gains_the_curve_and_the_open_set_and_keeps_its_names() -> None:
    (answer, targets, gallery), (ceiling, *_) = similarities(1.0), similarities(8.0)
    metrics = scored(Linkage(), answer, ceiling, targets, gallery, 200)
    before = {
        "rank_1",
        "rank_1_blind",
        "rank_1_ceiling",
        "leakage_rank_1",
        "tar_at_far_1e-2",
        "tar_at_far_1e-3_ceiling",
    }
    curve = {f"rank_1_of_{size}{end}" for size in (10, 30) for end in ("", "_ceiling")}
    fnir = {f"fnir_at_fpir_{rate}{end}" for rate in ("1e-1", "1e-2") for end in ("", "_ceiling")}
    assert before | curve | fnir <= set(metrics)
    assert "rank_1_of_100" not in metrics  # of a gallery of 60
    ten, thirty, sixty = (metrics[name].value for name in ("rank_1_of_10", "rank_1_of_30", "rank_1"))
    assert ten is not None and thirty is not None and sixty is not None and ten > thirty > sixty
    assert metrics["fnir_at_fpir_1e-2"].value is None and "1,000 non-mated" in metrics["fnir_at_fpir_1e-2"].reason
    missed, best = metrics["fnir_at_fpir_1e-1"], metrics["fnir_at_fpir_1e-1_ceiling"]
    assert missed.value is not None and missed.interval is not None and missed.interval[0] <= missed.value
    assert metric_info("fnir_at_fpir_1e-1").direction == "lower_is_better" and best.value == 0
    assert all(metric_info(name.removesuffix("_ceiling")).contains(metrics[name].value or 0) for name in curve | fnir)


def test_linkage_verifies_pairs_of_disjoint_folds() -> None:
    (answer, targets, gallery), (ceiling, *_) = similarities(1.0), similarities(8.0)
    pairs = verification_pairs(targets, gallery)
    assert (gallery[pairs.right] == targets[pairs.left]).tolist() == pairs.same.tolist()
    assert pairs.same.sum() == (~pairs.same).sum() == len(targets)
    people = [set(targets[pairs.left[pairs.fold == f]]) | set(gallery[pairs.right[pairs.fold == f]]) for f in range(10)]
    assert sum(map(len, people)) == len(set().union(*people)) == 60
    metrics = scored(Linkage(), answer, ceiling, targets, gallery, 200)
    accuracy, most, errors = (metrics[name].value for name in ("accuracy", "accuracy_ceiling", "eer"))
    assert accuracy is not None and most is not None and errors is not None
    # Genuine scores lie one deviation above those of impostors, so the best threshold errs in Phi(-1/2) = 31%.
    assert accuracy == pytest.approx(0.69, abs=0.05) and errors == pytest.approx(0.31, abs=0.05) and most > 0.99
    low, high = metrics["accuracy"].interval or (0.0, 0.0)
    assert low < accuracy < high and high - low < 0.15
    blank = scored(Linkage(), 0 * answer, ceiling, targets, gallery, 50)
    assert blank["accuracy"].value == 0.5 and blank["eer"].value == 0.5
    few, who, shown = similarities(8.0, targets=6, people=3)
    assert scored(Linkage(), few, few, who, shown, 50)["accuracy"].value is None
