"""Verification metrics against known answers, sklearn, and the bugs of earlier benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.verification import (
    accuracy_at,
    auc,
    best_threshold,
    eer,
    failed_as_errors,
    impostors_needed,
    k_fold_accuracy,
    tar_at_far,
    threshold_at_far,
)  # fmt: skip

Problem = tuple[np.ndarray, np.ndarray]


def problem(m: int = 400, separation: float = 1.0, levels: int = 0, seed: int = 0) -> Problem:
    """Scores (m,) and labels (m,), half genuine; ``levels`` > 0 rounds the scores so that many are tied."""
    random = np.random.RandomState(seed)
    same = np.arange(m) % 2 == 0
    scores = random.standard_normal(m) + separation * same
    return (np.round(scores * levels) / levels if levels else scores), same


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Few distinct integer scores, so that ties are common and transforms exact; both labels present."""
    scores = draw(st.lists(st.integers(-20, 20), min_size=4, max_size=40))
    labels = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    labels[:2] = [True, False]
    return np.array(scores, dtype=np.float64), np.array(labels)


def folds_of(m: int) -> np.ndarray:
    """Ten folds of equal size, in order."""
    return np.arange(m) * 10 // m


def test_perfect_recognizer() -> None:
    _, same = problem()
    scores = np.where(same, 0.9, 0.1)
    result = k_fold_accuracy(scores, same, folds_of(400))
    assert result.accuracy == 1.0
    assert result.correct.all()
    np.testing.assert_allclose(result.thresholds, np.full(10, 0.5))  # half-way in the gap
    assert auc(scores, same) == 1.0
    assert eer(scores, same) == 0.0
    assert tar_at_far(scores, same, 0.1).value == 1.0


def test_a_recognizer_that_is_always_wrong_is_not_turned_round() -> None:
    _, same = problem()
    scores = np.where(same, 0.1, 0.9)
    assert auc(scores, same) == 0.0
    assert eer(scores, same) == 1.0
    assert k_fold_accuracy(scores, same, folds_of(400)).accuracy <= 0.5


def test_constant_embeddings_know_nothing() -> None:
    _, same = problem()
    scores = np.full(400, 0.37)
    assert k_fold_accuracy(scores, same, folds_of(400)).accuracy == 0.5
    assert auc(scores, same) == 0.5
    assert eer(scores, same) == 0.5
    point = tar_at_far(scores, same, 0.1)
    assert (point.value, point.achieved_far) == (0.0, 0.0)  # tied pairs fall together


@pytest.mark.parametrize("levels", [0, 1, 4])
@pytest.mark.parametrize("separation", [0.0, 1.0, 3.0])
def test_auc_and_eer_are_those_of_sklearn(levels: int, separation: float) -> None:
    scores, same = problem(401, separation, levels)
    assert auc(scores, same) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    false_accept, true_accept, _ = roc_curve(same, scores, drop_intermediate=False)
    curve = interp1d(false_accept, true_accept)
    if levels:  # without ties the curve is a staircase, which interpolation by false accept rate blurs
        assert eer(scores, same) == pytest.approx(brentq(lambda x: 1 - x - curve(x), 0, 1), abs=1e-9)
    for far in (0.1, 0.06):
        point = tar_at_far(scores, same, far)
        assert point.value == pytest.approx(true_accept[false_accept <= far + 1e-12].max())
        assert point.achieved_far == pytest.approx(false_accept[false_accept <= far + 1e-12].max())


def test_eer_by_hand() -> None:
    same = np.array([True, True, True, True, False, False, False, False])
    assert eer(np.array([4.0, 3.0, 2.0, 0.5, 1.0, 0.0, -1.0, -2.0]), same) == 0.25
    tied = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])  # (far, frr): (1/4, 0), (0, 3/4): cross at 3/16
    assert eer(tied, same) == pytest.approx(3 / 16)


def brute_best(scores: np.ndarray, same: np.ndarray) -> float:
    cuts = [*sorted(set(scores)), math.inf]
    return max(float(np.mean((scores >= cut) == same)) for cut in cuts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_the_best_threshold_is_the_best_there_is(one: Problem) -> None:
    scores, same = one
    threshold = best_threshold(scores, same)
    assert math.isfinite(threshold)
    assert accuracy_at(scores, same, threshold) == brute_best(scores, same)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(), st.sampled_from([np.exp, np.arctan, lambda x: x**3, lambda x: 2 * x - 7]))
def test_monotone_transforms_change_nothing(one: Problem, transform: object) -> None:
    scores, same = one
    assert callable(transform)
    other = transform(scores)
    assert auc(other, same) == auc(scores, same)
    assert eer(other, same) == eer(scores, same)
    before, after = (accuracy_at(values, same, best_threshold(values, same)) for values in (scores, other))
    assert before == after
    points = [tar_at_far(values, same, 0.9) for values in (scores, other)]
    assert (points[0].value, points[0].achieved_far) == (points[1].value, points[1].achieved_far)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_scaling_scores_does_not_move_fold_accuracy(one: Problem) -> None:
    scores, same = (np.tile(part, 3) for part in one)
    fold = np.repeat(np.arange(3), len(one[0]))
    first, second = (k_fold_accuracy(values, same, fold) for values in (scores, 8 * scores + 4))
    assert first.accuracy == second.accuracy
    np.testing.assert_array_equal(first.correct, second.correct)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(one: Problem, random: object) -> None:
    scores, same = one
    order = np.arange(len(scores))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert auc(scores[order], same[order]) == auc(scores, same)
    assert eer(scores[order], same[order]) == eer(scores, same)
    assert best_threshold(scores[order], same[order]) == best_threshold(scores, same)


def test_swapping_the_labels_mirrors_auc() -> None:
    scores, same = problem(levels=3)
    assert auc(scores, ~same) == pytest.approx(1 - auc(scores, same))
    assert auc(-scores, same) == pytest.approx(1 - auc(scores, same))


def test_noise_reads_as_chance_because_thresholds_come_from_other_folds() -> None:
    """The optimum taken on the very scores it judges reads 52% and more on pure noise (evaluation-lessons, 3.18)."""
    honest, oracle = [], []
    for seed in range(60):
        scores, same = problem(600, 0.0, seed=seed)
        honest.append(k_fold_accuracy(scores, same, folds_of(600)).accuracy)
        oracle.append(accuracy_at(scores, same, best_threshold(scores, same)))
    assert np.mean(oracle) > 0.515
    assert abs(np.mean(honest) - 0.5) < 0.01


def test_a_fold_is_judged_without_being_looked_at() -> None:
    """A fold with scores of its own scale fails at the thresholds of the others, though it is separable itself."""
    _, same = problem(100)
    fold = folds_of(100)
    scores = np.where(same, 1.0, 0.0) + 5.0 * (fold == 3)
    result = k_fold_accuracy(scores, same, fold)
    assert result.correct[fold != 3].all()
    np.testing.assert_array_equal(result.correct[fold == 3], same[fold == 3])
    assert result.accuracy == pytest.approx(0.95)


def test_folds_may_have_any_names_and_sizes() -> None:
    scores, same = problem(90, 2.0)
    fold = np.repeat([7, -2, 40], [20, 30, 40])
    result = k_fold_accuracy(scores, same, fold)
    for name, threshold in zip([-2, 7, 40], result.thresholds, strict=True):
        rest = fold != name
        assert threshold == best_threshold(scores[rest], same[rest])
        np.testing.assert_array_equal(result.correct[~rest], (scores[~rest] >= threshold) == same[~rest])
    assert result.accuracy == result.correct.mean()


def test_frozen_thresholds_and_refitted_ones_differ_when_scores_shift() -> None:
    """A protection that shifts all scores alike: refitted accuracy stays, the deployed threshold fails."""
    scores, same = problem(600, 5.0)
    frozen = best_threshold(scores, same)
    shifted = scores - 10
    assert accuracy_at(shifted, same, frozen) == 0.5
    assert k_fold_accuracy(shifted, same, folds_of(600)).accuracy > 0.97


def test_equally_good_thresholds_resolve_to_the_middle() -> None:
    same = np.array([False, False, True, False, True, True])
    # one error at best, cutting at 1.5 or at 3.5
    assert best_threshold(np.arange(6.0), same) == 1.5
    # three cuts equally good: the middle one, between 3 and 4
    assert best_threshold(np.arange(8.0), np.array([0, 0, 1, 0, 1, 0, 1, 1], dtype=bool)) == 3.5


def test_neighbouring_floats_are_told_apart() -> None:
    low = 0.3
    scores = np.array([low, np.nextafter(low, 1)])
    assert accuracy_at(scores, np.array([False, True]), best_threshold(scores, np.array([False, True]))) == 1.0


def test_single_precision_scores_meet_their_threshold_in_double() -> None:
    random = np.random.RandomState(3)
    impostors = random.rand(1000).astype(np.float32)
    threshold = threshold_at_far(impostors, 0.1)
    same = np.zeros(1000, dtype=bool)
    assert accuracy_at(impostors, same, threshold) == pytest.approx(0.9)


def test_tar_at_far_is_refused_without_the_impostors_for_it() -> None:
    scores, same = problem(6000, 2.0)  # 3,000 impostors: enough for 1e-2, not for 1e-3 or 1e-4
    assert [impostors_needed(far) for far in (1e-2, 1e-3, 1e-4)] == [1000, 10_000, 100_000]
    assert tar_at_far(scores, same, 1e-2).value is not None
    for far in (1e-3, 1e-4):
        point = tar_at_far(scores, same, far)
        assert (point.value, point.achieved_far, point.threshold) == (None, None, None)
        assert "3,000" in point.reason
        with pytest.raises(UserError, match="needs"):
            threshold_at_far(scores[~same], far)


def test_tar_at_far_reports_what_was_reached() -> None:
    impostors = np.repeat(np.arange(100.0), 11)  # 1,100 of them, tied by eleven: 1e-2 admits exactly the top eleven
    genuine = np.array([50.0, 98.0, 98.5, 99.0, 120.0])
    scores, same = np.r_[impostors, genuine], np.r_[np.zeros(1100, bool), np.ones(5, bool)]
    point = tar_at_far(scores, same, 1e-2)
    assert (point.value, point.achieved_far, point.n, point.impostors) == (0.6, 0.01, 5, 1100)
    doubled = np.r_[np.repeat(np.arange(100.0), 20), genuine], np.r_[np.zeros(2000, bool), np.ones(5, bool)]
    strict = tar_at_far(*doubled, 0.0099)  # 19 of the top 20 could pass, but they are tied: none does
    assert (strict.value, strict.achieved_far) == (0.2, 0.0)


def test_far_is_a_rate() -> None:
    for far in (0.0, 1.0, -0.1, 100.0, math.nan):
        with pytest.raises(UserError, match="between 0 and 1"):
            impostors_needed(far)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused_and_not_counted_as_privacy(broken: float) -> None:
    scores, same = problem(100)
    scores[3] = broken
    for measure in (auc, eer, best_threshold, lambda s, y: k_fold_accuracy(s, y, folds_of(100))):
        with pytest.raises(UserError, match="1 of 100 pair scores are not finite"):
            measure(scores, same)


def test_undetected_faces_count_as_errors_and_stay_in_the_denominator() -> None:
    _, same = problem(1000)
    scores = np.where(same, 1.0, 0.0)
    scores[:100] = math.nan
    entered = failed_as_errors(scores, same)
    result = k_fold_accuracy(entered, same, np.arange(1000) % 10)
    assert len(result.correct) == 1000
    assert result.accuracy == pytest.approx(0.9)
    assert auc(entered, same) == pytest.approx(0.9**2)  # right only where both sides were detected
    np.testing.assert_array_equal(entered[100:], scores[100:])
    assert np.isfinite(failed_as_errors(np.full(1000, math.nan), same)).all()


def test_without_both_kinds_of_pairs_there_is_no_number() -> None:
    scores = np.arange(20.0)
    for same in (np.ones(20, dtype=bool), np.zeros(20, dtype=bool)):
        assert math.isnan(auc(scores, same))
        assert math.isnan(eer(scores, same))
        with pytest.raises(UserError, match="genuine and impostor"):
            best_threshold(scores, same)
    assert math.isnan(accuracy_at(np.empty(0), np.empty(0, dtype=bool), 0.5))
    assert tar_at_far(scores, np.zeros(20, dtype=bool), 0.5).reason == "there are no genuine pairs"


def test_shapes_and_types_are_checked() -> None:
    scores, same = problem(20)
    for wrong in (same[:-1], same.astype(int), same[:, None]):
        with pytest.raises(UserError, match="one score and one bool"):
            auc(scores, wrong)
    for fold in (np.zeros(20, dtype=int), np.arange(19)):
        with pytest.raises(UserError, match="two folds"):
            k_fold_accuracy(scores, same, fold)
