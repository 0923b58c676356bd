"""Bootstrap over identities: pairing, weights, weighted measures, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from ppfr_bench.errors import UserError
from ppfr_bench.metrics import intervals
from ppfr_bench.metrics.intervals import (
    identity_pair_weights,
    identity_weights,
    percentile_interval,
    share_interval,
    weighted_auc,
    weighted_eer,
    weighted_mean,
)  # fmt: skip
from ppfr_bench.metrics.verification import auc, eer


def test_a_replicate_draws_as_many_identities_as_there_are() -> None:
    weights = identity_weights(np.arange(30), replicates=500, seed=3)
    assert weights.shape == (500, 30)
    assert weights.dtype == np.float64
    np.testing.assert_array_equal(weights.sum(axis=1), np.full(500, 30.0))
    np.testing.assert_array_equal(weights, weights.round())
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=0.25)
    assert weights.var() == pytest.approx(1 - 1 / 30, abs=0.05)  # multinomial


def test_images_of_one_person_rise_and_fall_together() -> None:
    identities = np.array([4, 9, 4, 2, 9, 4])
    weights = identity_weights(identities)
    assert weights.shape == (200, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 5])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, 0] != weights[:, 1]).any()


def test_the_draw_depends_on_identities_and_seed_alone() -> None:
    identities = np.array([4, 9, 2])
    weights = identity_weights(identities, 50, seed=1)
    np.testing.assert_array_equal(weights, identity_weights(identities, 50, seed=1))
    np.testing.assert_array_equal(weights[:, [2, 0]], identity_weights(np.array([2, 4]), 50, 1, universe=[9, 4, 2, 2]))
    assert (weights != identity_weights(identities, 50, seed=2)).any()
    # the first rows do not depend on how many follow
    np.testing.assert_array_equal(weights[:20], identity_weights(identities, 20, seed=1))


def test_the_draw_is_frozen() -> None:
    """Records keep their bytes: the stream of numpy's RandomState does not change between versions."""
    np.testing.assert_array_equal(
        identity_weights(np.arange(5), 3, seed=0),
        np.random.RandomState(0).multinomial(5, np.full(5, 0.2), size=3),
    )


def test_pairs_are_drawn_with_their_people() -> None:
    people = np.array([1, 2, 3, 4])
    single = identity_weights(people, 100, seed=5)
    left, right = np.array([1, 1, 3, 4]), np.array([1, 2, 4, 4])
    pairs = identity_pair_weights(left, right, 100, seed=5, universe=people)
    expected = [single[:, 0], single[:, 0] * single[:, 1], single[:, 2] * single[:, 3], single[:, 3]]
    np.testing.assert_array_equal(pairs, np.stack(expected, axis=1))
    np.testing.assert_array_equal(pairs, identity_pair_weights(left, right, 100, seed=5))  # all four occur


def test_strangers_and_crooked_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="outside the universe"):
        identity_weights(np.array([1, 5]), universe=[1, 2, 3])
    with pytest.raises(UserError, match="one identity at least"):
        identity_weights(np.empty(0, dtype=int))
    with pytest.raises(UserError, match="One left and one right"):
        identity_pair_weights(np.arange(3), np.arange(4))
    with pytest.raises(UserError, match="Weights must be"):
        weighted_mean(np.arange(3.0), np.ones((10, 4)))


def test_weighted_mean_and_missing_values() -> None:
    weights = np.array([[1.0, 1, 1], [2, 0, 1], [0, 0, 0]])
    means = weighted_mean([1.0, 4.0, 7.0], weights)
    np.testing.assert_array_equal(means, [4.0, 3.0, np.nan])
    assert np.isnan(weighted_mean([1.0, np.nan, 7.0], weights)).all()


def scored_pairs(levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    left = random.randint(0, 12, 120)
    same = np.arange(120) % 2 == 0
    right = np.where(same, left, (left + random.randint(1, 12, 120)) % 12)
    scores = random.standard_normal(120) + same
    return np.round(scores * levels) / levels, same, identity_pair_weights(left, right, 40, seed=1)


@pytest.mark.parametrize("levels", [1, 5, 10**9])
def test_weighted_auc_is_that_of_sklearn(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, weights = scored_pairs(levels)
    values = weighted_auc(scores, same, weights)
    expected = [roc_auc_score(same, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    rates = weighted_eer(scores, same, weights)
    monkeypatch.setattr(intervals, "_BLOCK", 7 * 120)  # several blocks, the last one short
    np.testing.assert_array_equal(weighted_auc(scores, same, weights), values)
    np.testing.assert_array_equal(weighted_eer(scores, same, weights), rates)


@pytest.mark.parametrize("levels", [1, 5, 10**9])
def test_a_weight_is_a_repetition(levels: int) -> None:
    scores, same, weights = scored_pairs(levels)
    for row, area, rate in zip(
        weights, weighted_auc(scores, same, weights), weighted_eer(scores, same, weights), strict=True
    ):
        times = row.astype(int)
        assert area == pytest.approx(auc(scores.repeat(times), same.repeat(times)), abs=1e-12)
        assert rate == pytest.approx(eer(scores.repeat(times), same.repeat(times)), abs=1e-12)


def test_equal_weights_give_the_plain_measure() -> None:
    scores, same, _ = scored_pairs(3)
    assert weighted_auc(scores, same, np.ones((1, 120)))[0] == pytest.approx(auc(scores, same))
    assert weighted_eer(scores, same, np.full((1, 120), 2.0))[0] == pytest.approx(eer(scores, same))
    constant = np.zeros(120)
    assert weighted_auc(constant, same, np.ones((1, 120)))[0] == 0.5
    assert weighted_eer(constant, same, np.ones((1, 120)))[0] == 0.5


def test_a_replicate_without_impostors_is_missing() -> None:
    scores, same = np.array([3.0, 2.0, 1.0]), np.array([True, False, False])
    weights = np.array([[1.0, 0, 0], [0, 1, 1], [1, 1, 0]])
    for measure, value in ((weighted_auc, 1.0), (weighted_eer, 0.0)):
        np.testing.assert_array_equal(measure(scores, same, weights), [np.nan, np.nan, value])


def test_percentile_interval() -> None:
    values = np.arange(101.0)
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert percentile_interval(values, level=0.5) == pytest.approx((25, 75))
    assert percentile_interval(np.r_[values, np.full(50, np.nan)]) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.r_[values, np.full(150, np.nan)]) is None
    assert percentile_interval(np.full(5, np.nan)) is None
    with pytest.raises(UserError, match="between 0 and 1"):
        percentile_interval(values, level=95)


def coverage(by_identity: bool) -> float:
    """Share of simulated data sets, 40 people with 6 alike photos each, whose 95% interval holds the true mean 0."""
    held = 0
    for seed in range(300):
        random = np.random.RandomState(seed)
        people = np.repeat(np.arange(40), 6)
        values = random.standard_normal(40)[people] + 0.5 * random.standard_normal(240)
        clusters = people if by_identity else np.arange(240)
        interval = percentile_interval(weighted_mean(values, identity_weights(clusters, 200, seed)))
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    return held / 300


def test_intervals_over_identities_cover_and_intervals_over_images_do_not() -> None:
    assert 0.89 <= coverage(by_identity=True) <= 0.98
    assert coverage(by_identity=False) < 0.75


def test_paired_replicates_make_differences_sharp() -> None:
    """Two defenses on the same people differ by 0.02 everywhere: hidden in each interval, plain in the difference."""
    random = np.random.RandomState(0)
    people = np.repeat(np.arange(50), 4)
    first = random.standard_normal(50)[people] * 0.2
    second = first + 0.02 + 0.01 * random.standard_normal(200)
    replicates = [weighted_mean(values, identity_weights(people, 200)) for values in (first, second)]
    apart = [percentile_interval(one) for one in replicates]
    difference = percentile_interval(replicates[1] - replicates[0])
    assert apart[0] is not None and apart[1] is not None and difference is not None
    assert apart[0][1] > apart[1][0]
    assert difference[0] > 0


# Near the ends of a share -------------------------------------------------------------------------------------------


def test_a_share_that_all_draws_agree_on_reaches_as_far_as_so_many_people_allow() -> None:
    """Rule of three: 60 of 60 people may be 57 of 60."""
    low, high = share_interval(np.ones(200), 1.0, 60, 120) or (0.0, 0.0)
    assert high == 1 and low == pytest.approx(0.05 ** (1 / 60)) and 1 - low == pytest.approx(3 / 60, rel=0.05)
    assert share_interval(np.zeros(200), 0.0, 60, 120) == pytest.approx((0.0, 1 - 0.05 ** (1 / 60)))


@pytest.mark.parametrize("misses", [1, 2])
def test_a_share_near_its_end_has_exact_limits(misses: int) -> None:
    found = binomtest(60 - misses, 60).proportion_ci(0.95, "exact")
    draws = 1 - np.random.default_rng(0).binomial(60, misses / 60, 20_000) / 60
    assert share_interval(draws, 1 - misses / 60, 60, 60) == pytest.approx((found.low, found.high), abs=0.012)


def test_many_items_of_a_person_count_as_many_as_they_scatter_like() -> None:
    """Accuracy 0.99 of 60 people with 20 pairs each, which scatters like 1,200 pairs or like 60 people."""
    widths = []
    for independent in (1200, 60):
        draws = 0.99 + (0.99 * 0.01 / independent) ** 0.5 * np.random.default_rng(0).standard_normal(2000)
        low, high = share_interval(draws, 0.99, 60, 1200) or (0.0, 0.0)
        widths.append(high - low)
    assert widths[0] == pytest.approx(4 * (0.99 * 0.01 / 1200) ** 0.5, rel=0.2) and widths[1] > 3 * widths[0]


def test_a_share_away_from_its_ends_and_what_is_no_share_stay_as_they_are() -> None:
    draws = np.linspace(0.45, 0.55, 200)
    assert share_interval(draws, 0.5, 60, 120) == percentile_interval(draws)
    assert share_interval(draws, 1.0, 0, 0) == percentile_interval(draws)
    assert share_interval(draws + 1, 1.5, 60, 120) == percentile_interval(draws + 1)
    assert share_interval(np.full(200, np.nan), 1.0, 60, 120) is None
