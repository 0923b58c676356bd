"""Leakage, retention, harmonic mean and the Pareto front: a missing number never looks like privacy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.leakage import BROKEN, harmonic_mean, leakage, leakage_reason, retention
from ppfr_bench.metrics.pareto import pareto_front
from ppfr_bench.scorers.bootstrap import estimate

numbers = st.floats(-1e6, 1e6)
anything = st.floats(allow_nan=True, allow_infinity=True)


def test_leakage_known_answers() -> None:
    assert leakage(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert leakage(0.8, 0.2, 0.8) == 1.0  # as if there were no defense
    assert leakage(0.2, 0.2, 0.8) == 0.0  # learnt nothing
    assert leakage(0.1, 0.2, 0.8) == 0.0
    assert leakage(0.9, 0.2, 0.8) == 1.0


def test_distances_are_turned() -> None:
    assert leakage(0.35, 0.6, 0.1, lower_is_more_alike=True) == pytest.approx(0.5)
    assert leakage(0.1, 0.6, 0.1, lower_is_more_alike=True) == 1.0
    assert leakage(0.7, 0.6, 0.1, lower_is_more_alike=True) == 0.0


@pytest.mark.parametrize(("blind", "ceiling"), [(0.388, 0.388), (0.388, 0.287)])
def test_an_attack_that_is_broken_without_a_defense_says_nothing_about_one(blind: float, ceiling: float) -> None:
    """SSIM 0.388 is what the mean face scores on LFW, 0.287 what an under-trained attacker might."""
    value = leakage(0.3, blind, ceiling)
    assert math.isnan(value)
    assert leakage_reason(0.3, blind, ceiling) == BROKEN
    found = estimate(value, 100, reason=leakage_reason(0.3, blind, ceiling))
    assert found.value is None and "broken" in found.reason
    assert math.isnan(leakage(0.3, ceiling, blind, lower_is_more_alike=True))
    assert leakage_reason(0.3, ceiling, blind, lower_is_more_alike=True) == BROKEN


def test_a_missing_measure_is_named_and_not_zero() -> None:
    for at, name in enumerate(("attack", "blind", "ceiling")):
        values = [0.5, 0.2, 0.8]
        values[at] = math.nan
        assert math.isnan(leakage(*values))
        assert leakage_reason(*values) == f"no value for {name}"
    assert leakage_reason(0.5, 0.2, 0.8) == ""


def test_replicates_are_judged_one_by_one() -> None:
    values = leakage(np.array([0.5, 0.5, np.nan, 2.0]), np.array([0.0, 0.9, 0.0, 0.0]), 0.8)
    np.testing.assert_allclose(values, [0.625, np.nan, np.nan, 1.0])


@settings(derandomize=True, deadline=None)
@given(anything, anything, anything, st.booleans())
def test_leakage_lies_between_0_and_1_or_is_missing_with_a_reason(
    attack: float, blind: float, ceiling: float, distance: bool
) -> None:
    value = leakage(attack, blind, ceiling, distance)
    assert isinstance(value, float)
    assert math.isnan(value) or 0 <= value <= 1
    if not leakage_reason(attack, blind, ceiling, distance):
        assert math.isfinite(value) or not math.isfinite(ceiling - blind)


@settings(derandomize=True, deadline=None)
@given(numbers, numbers, numbers, numbers)
def test_a_stronger_attack_never_leaks_less(weak: float, strong: float, blind: float, ceiling: float) -> None:
    weak, strong = sorted((weak, strong))
    first, second = leakage(weak, blind, ceiling), leakage(strong, blind, ceiling)
    assert (math.isnan(first) and math.isnan(second)) or first <= second


def test_retention_known_answers() -> None:
    assert retention(0.99, 0.99, 0.5) == 1.0
    assert retention(0.5, 0.99, 0.5) == 0.0
    assert retention(0.745, 0.99, 0.5) == pytest.approx(0.5)
    assert retention(0.49, 0.99, 0.5) < 0  # noise is not clipped
    assert math.isnan(retention(0.5, 0.5, 0.5))
    assert math.isnan(retention(math.nan, 0.99, 0.5))
    np.testing.assert_allclose(retention(np.array([0.5, 0.99]), 0.99, 0.5), [0.0, 1.0])


def test_harmonic_mean_known_answers() -> None:
    assert harmonic_mean(1.0, 1.0) == 1.0
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 1.0) == 0.0  # blackout: private and useless
    assert harmonic_mean(1.0, 0.0) == 0.0  # identity: useful and not private
    assert harmonic_mean(-0.01, 1.0) == 0.0
    assert math.isnan(harmonic_mean(math.nan, 1.0))
    assert math.isnan(harmonic_mean(0.0, math.nan))
    np.testing.assert_allclose(harmonic_mean(np.array([0.5, np.nan]), np.array([0.5, 0.5])), [0.5, np.nan])


@settings(derandomize=True, deadline=None)
@given(st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_harmonic_mean_lies_between_its_parts(first: float, second: float) -> None:
    mean = harmonic_mean(first, second)
    assert min(first, second) * (1 - 1e-12) <= mean <= max(first, second) * (1 + 1e-12)
    assert mean == harmonic_mean(second, first)


def test_pareto_front_known_answers() -> None:
    points = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.4, 0.5), (0.5, 0.4), (0.5, 0.5)]
    np.testing.assert_array_equal(pareto_front(points), [True, True, True, False, False, True])
    assert pareto_front(np.empty((0, 2))).shape == (0,)


def test_a_missing_score_is_never_on_the_front_and_beats_nobody() -> None:
    points = np.array([[np.nan, 1.0], [1.0, np.nan], [np.nan, np.nan], [0.1, 0.1]])
    np.testing.assert_array_equal(pareto_front(points), [False, False, False, True])


def test_points_have_two_coordinates() -> None:
    with pytest.raises(UserError, match=r"\(n, 2\)"):
        pareto_front(np.zeros((4, 3)))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points)
    for at, (x, y) in enumerate(points):
        beaten = any(u >= x and v >= y and (u, v) != (x, y) for u, v in points)
        assert front[at] == (not beaten)
    assert front.any()
